-- Copyright (c) the mailops.mta authors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Signs each message with all keys of the domain in its From field, or lets the sender try again later.

local options = rspamd_config:get_all_opt('signing')
local sign = rspamd_plugins.dkim.sign

-- Read for each message, so that another key signs from one message to the next and without a reload.
local function key_files(domain)
  local file = domain:match('^[a-z0-9._-]+$') and io.open(options.directory .. '/signing/' .. domain)
  if not file then
    return
  end
  local text = file:read('*a')
  file:close()
  return text and text ~= '' and text or nil
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
    local from = task:get_from('mime')
    if not from or #from ~= 1 or not from[1].domain or from[1].domain == '' then
      return refuse(task, 'reject', 'the From field must hold exactly one address')
    end
    local domain = from[1].domain:lower()
    local files = key_files(domain)
    if not files then
      return refuse(task, 'soft reject', 'this server has no DKIM key for the domain in the From field')
    end
    for name in files:gmatch('[^\n]+') do
      local selector, key = name:match('^[^.]+'), options.directory .. '/keys/' .. name
      if not sign(task, { domain = domain, selector = selector, key = key }) then
        return refuse(task, 'soft reject', 'the message could not be signed')
      end
    end
    task:set_pre_result('no action', 'signed', 'signing')
  end,
}
