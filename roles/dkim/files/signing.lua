-- Copyright (c) the mailops.mta authors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Refuses what its stream does not admit, and signs everything else with all keys of the domain in its From field.
-- The mail server names the stream by the milter macro {daemon_name}; streams.json says what each stream admits
-- (core/engines/admission.py). At the front listener nothing is signed: the stream that the message goes to does that.

local regexp = require 'rspamd_regexp'
local ucl = require 'ucl'
local util = require 'rspamd_util'

local options = rspamd_config:get_all_opt('signing')
local parser = ucl.parser()
local read, problem = parser:parse_file(options.directory .. '/streams.json')
if not read then
  error('streams.json: ' .. tostring(problem))
end
local admission = parser:get_object()
local sign = rspamd_plugins.dkim.sign

local FRONT = 'front'
-- RFC 5322 3.6: each of these at most once. Verifiers and readers would choose among several in different ways.
local SINGLE = {
  'From', 'Sender', 'Reply-To', 'To', 'Cc', 'Bcc', 'Message-ID', 'In-Reply-To', 'References', 'Subject', 'Date',
}
-- RFC 5322 2.1.1: 998 bytes without CRLF. Servers on the way fold or refuse longer lines.
local LONG_LINE = regexp.create('/^[^\\n\\r]{999}/rm')
-- RFC 5322 2.3: CR and LF occur only together, and no NUL. rspamd takes VT and FF for white space where RFC 6376 3.4.4
-- does not, so verifiers would find another body.
local STRAY = regexp.create('/\\r(?!\\n)|[\\x00\\x0b\\x0c]/r')

-- Such a body is empty for DKIM (RFC 6376 3.4.4), and one empty line for rspamd.
local BLANK = regexp.create('/\\A[\\r\\n]*[ \\t][ \\t\\r\\n]*\\z/r')

local function set(list)
  local found = {}
  for _, item in ipairs(list or {}) do
    found[item] = true
  end
  return found
end

for _, stream in pairs(admission.streams) do
  stream.senders = set(stream.senders)
end

-- The prefix lengths of the front listener's networks, the longest first, for IPv4 and IPv6.
local lengths, networks = { [4] = {}, [6] = {} }, {}
for _, entry in ipairs(admission.front and admission.front.networks or {}) do
  local address, length = entry.network:match('^(.+)/(%d+)$')
  local list = lengths[address:find(':', 1, true) and 6 or 4]
  if list[#list] ~= tonumber(length) then
    list[#list + 1] = tonumber(length)
  end
  networks[entry.network] = entry.streams
end

local function printable(text)
  return (text:gsub('[^ -~]', '?'):sub(1, 100))
end

local function canonical(domain)
  if domain:match('^[%z\1-\127]*$') then
    return domain:lower():gsub('%.$', '')
  end
  return tostring(util.lower_utf8(domain) or domain):gsub('%.$', '')
end

-- Read for each message, so that another key signs from one message to the next and without a reload.
local function key_files(domain)
  local file = io.open(options.directory .. '/signing/' .. domain)
  if not file then
    return
  end
  local text = file:read('*a')
  file:close()
  return text and text ~= '' and text or nil
end

local function streams_of(ip)
  if not ip or not ip:is_valid() then
    return
  end
  for _, length in ipairs(lengths[ip:get_version()] or {}) do
    local found = networks[ip:apply_mask(length):to_string() .. '/' .. length]
    if found then
      return set(found), found
    end
  end
end

-- The stream that the front listener hands a message to, as its Postfix does, or nil and why there is none.
local function chosen(task)
  local front = admission.front
  local named
  for _, field in ipairs(task:get_header_full(front.header) or {}) do
    local value = tostring(field.value or ''):match('^%s*(.-)%s*$'):lower()
    if not admission.streams[value] then
      return nil, ('%s names no stream'):format(front.header)
    end
    if named and named ~= value then
      return nil, ('%s names the streams %s and %s'):format(front.header, named, value)
    end
    named = value
  end
  local login = task:get_user()
  if login and login ~= '' then
    local own = front.logins[login]
    if not own then
      return nil, ('the login %s has no stream'):format(printable(login))
    end
    if named and named ~= own then
      return nil, ('the login %s belongs to stream %s, but %s names %s'):format(login, own, front.header, named)
    end
    return own
  end
  local own, list = streams_of(task:get_ip())
  local wanted = named or front.default
  if not own or own[wanted] then
    return wanted
  end
  if named then
    return nil, ('your network may inject into stream %s, but %s names %s'):format(
        table.concat(list, ', '), front.header, named)
  end
  if #list == 1 then
    return list[1]
  end
  return nil, ('your network may inject into the streams %s: choose one by %s'):format(
      table.concat(list, ', '), front.header)
end

-- The domain to sign for, or nil and why the stream does not admit the message.
local function admitted(task, name, stream)
  for _, field in ipairs(SINGLE) do
    if #(task:get_header_full(field) or {}) > 1 then
      return nil, ('the message has more than one %s field; RFC 5322 allows one'):format(field)
    end
  end
  local from = task:get_from('mime')
  if not from or #from ~= 1 or not from[1].domain or from[1].domain == '' then
    return nil, 'the From field must hold exactly one address'
  end
  local domain = stream.from[canonical(from[1].domain)]
  if not domain then
    return nil, ('stream %s sends From its own domains only, not %s'):format(name, printable(from[1].domain))
  end
  local sender = task:get_from('smtp')
  local path = sender and sender[1] and sender[1].domain or ''
  if path ~= '' and not stream.senders[canonical(path)] then
    return nil, ('stream %s takes envelope senders of its own domains only, not %s'):format(name, printable(path))
  end
  local content = task:get_content()
  if LONG_LINE:search(content, true) then
    return nil, 'a line has more than 998 bytes: fold the header field, or encode the body (quoted-printable, base64)'
  end
  if STRAY:search(content, true) then
    return nil, 'the message holds a CR without LF, or a NUL, VT or FF: encode the body (quoted-printable, base64)'
  end
  if BLANK:search(task:get_rawbody(), true) then
    return nil, 'the body holds white space only: leave it empty'
  end
  return domain
end

local function refuse(task, action, text)
  task:set_pre_result(action, text, 'signing')
end

rspamd_config:register_symbol {
  name = 'HEADERS_ONLY',
  type = 'connfilter',
  callback = function(task)
    -- Signing needs the raw message only: without this, bodies are decoded, cut into words and searched for languages.
    task:set_flag('skip_process')
  end,
}

rspamd_config:register_symbol {
  name = 'SIGNED',
  type = 'prefilter',
  callback = function(task)
    local instance = task:get_request_header('MTA-Name')
    instance = instance and tostring(instance)
    local name, why = instance, nil
    if instance == FRONT and admission.front then
      name, why = chosen(task)
      if not name then
        return refuse(task, 'reject', why)
      end
    end
    local stream = name and admission.streams[name]
    if not stream then
      return refuse(task, 'soft reject', 'the signer does not know the stream of this message')
    end
    local domain
    domain, why = admitted(task, name, stream)
    if not domain then
      return refuse(task, 'reject', why)
    end
    if instance == FRONT then
      if task:get_size() > stream.max_message_bytes + options.trace_bytes then
        return refuse(task, 'reject', ('stream %s takes %d bytes at most'):format(name, stream.max_message_bytes))
      end
      return task:set_pre_result('no action', 'admitted', 'signing')
    end
    local files = key_files(domain)
    if not files then
      return refuse(task, 'soft reject', ('no DKIM key of %s may sign yet'):format(domain))
    end
    for file in files:gmatch('[^\n]+') do
      local selector, key = file:match('^[^.]+'), options.directory .. '/keys/' .. file
      if not sign(task, { domain = domain, selector = selector, key = key }) then
        return refuse(task, 'soft reject', 'the message could not be signed')
      end
    end
    task:set_pre_result('no action', 'signed', 'signing')
  end,
}
