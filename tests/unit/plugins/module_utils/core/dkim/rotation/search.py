# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All worlds of a case, one after the other, until a law is broken or there is none left."""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from dataclasses import dataclass
from types import ModuleType
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.rotation import life
from ansible_collections.mailops.mta.tests.unit.plugins.module_utils.core.dkim.rotation.world import (
    Broken,
    Case,
    Machine,
    World,
)


@dataclass(frozen=True)
class Found:
    states: int
    ticks: int
    seconds: float
    complete: bool  # there is no world left that was not visited, however long one waits
    broken: Optional[Broken] = None
    trace: tuple[str, ...] = ()  # what happened before

    def __str__(self) -> str:
        found = f"{self.states} worlds in {self.seconds:.1f} s, " + ("all" if self.complete else f"{self.ticks} ticks")
        return found if self.broken is None else f"{found}: {self.broken} after: {'; '.join(self.trace)}"


def explore(case: Case, version: ModuleType = life) -> Found:
    """Tick after tick, everything that may happen; from every world there must be a way to rest."""
    begin = time.perf_counter()
    machine = Machine(version, case)
    reached: dict[World, Optional[tuple[World, str]]] = {}
    tick = 0

    def found(complete: bool, broken: Optional[Broken] = None, last: Optional[World] = None) -> Found:
        trace = tuple(_trace(reached, last)) if last else ()
        return Found(len(reached), tick, time.perf_counter() - begin, complete, broken, trace)

    def visit(world: World, before: Optional[tuple[World, str]]) -> bool:
        if world in reached:
            return False
        reached[world] = before
        machine.check(world)
        machine.settle(world)
        return True

    last: Optional[World] = None
    try:
        last = machine.begin()
        visit(last, None)
        layer = [last]
        while tick <= case.ticks:
            queue = deque(layer)
            while queue:
                last = world = queue.popleft()
                for label, later in machine.events(world):
                    last = machine.canonical(later)
                    if visit(last, (world, label)):
                        queue.append(last)
                        layer.append(last)
                    last = world
            before, layer = layer, []
            for world in before:
                last = machine.canonical(machine.tick(world))
                if visit(last, (world, "a tick")):
                    layer.append(last)
            if not layer:
                return found(True)
            tick += 1
    except Broken as broken:
        return found(False, broken, last)
    return found(False)


def _trace(reached: dict[World, Optional[tuple[World, str]]], world: World) -> list[str]:
    labels = []
    before = reached.get(world)
    while before is not None:
        world, label = before
        labels.append(label)
        before = reached[world]
    return labels[::-1]


def changed(source: str, *changes: tuple[str, str]) -> ModuleType:
    """The rotation with other text in some places, each of which must be there once."""
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"this stands {source.count(old)} times in rotation.py, not once: {old}")
        source = source.replace(old, new)
    module = ModuleType("rotation_changed")
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(compile(source, "rotation_changed.py", "exec"), module.__dict__)
    return module


def walk(case: Case, chance: random.Random, steps: int) -> Found:
    """One way through a larger world, by chance: a tick, a run, or anything else."""
    begin = time.perf_counter()
    machine = Machine(life, case)
    labels: list[str] = []
    broken = None
    try:
        world = machine.begin()
        for _step in range(steps):
            nexts = [*machine.events(world), ("a tick", machine.tick(world))]
            label, world = chance.choice([nexts[0], nexts[-1], chance.choice(nexts), chance.choice(nexts)])
            labels.append(label)
            world = machine.canonical(world)
            machine.check(world)
        machine.settle(world)
    except Broken as error:
        broken = error
    return Found(len(labels), labels.count("a tick"), time.perf_counter() - begin, False, broken, tuple(labels))
