"""Agent runs: a program is a conversation whose replies call tools, and every call is committed before it is made."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime

from assistant.errors import UsageError
from assistant.history.base import Conflict, NameTaken, first_line, now
from assistant.history.writing import Begun, Writing
from assistant.protocol import (
    ApprovalRow,
    CallChange,
    CallRow,
    Program,
    ProgramChange,
    ProgramRequest,
    ToolSpec,
)

_PROGRAM = """
    SELECT p.id, c.name AS conversation, p.task, p.tools, p.about, p.state, p.reason, p.created, p.updated,
           (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id AND t.shown AND t.role = 'assistant'
                                           AND t.state = 'done') AS steps
    FROM programs p JOIN conversations c ON c.id = p.conversation_id"""
_LOST = (
    "The program was stopped while this tool ran. Whether it did its work is not known: look before you call it again."
)
_ANSWERED = "The program {} has answered already; there is nothing to go on with."


class UnknownProgram(UsageError):
    """There is no program of this id."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of a program begins with."""

    begun: Begun
    name: str
    tools: list[ToolSpec]
    arrived: float
    """When the program began, in seconds since 1970."""


class Programs(Writing):
    """Programs, their steps and calls."""

    def begin_program(self, request: ProgramRequest, default_system: str | None = None) -> str:
        """Commit a new program with its task as the first message; its id."""
        program = secrets.token_hex(6)
        name = request.name or f"agent {program}"
        with self._commit():
            if self._db.execute("SELECT 1 FROM conversations WHERE name = ?", [name]).fetchone():
                raise NameTaken(f"There is already a conversation {name!r}; choose another name for the program.")
            conversation = self._open_conversation(name, first_line(request.task))
            self._db.execute("UPDATE conversations SET archived = 1 WHERE id = ?", [conversation])
            tip = self._place_system(name, conversation, request.system, default_system)
            self._insert(conversation, tip, "user", request.task, "done")
            tools = json.dumps([tool.model_dump() for tool in request.tools])
            self._db.execute(
                "INSERT INTO programs (id, conversation_id, task, tools, about, state, created, updated) "
                "VALUES (?, ?, ?, ?, ?, 'running', ?, ?)",
                [program, conversation, request.task, tools, json.dumps(request.about), now(), now()],
            )
        return program

    def program(self, program: str) -> Program:
        """One program, with the calls of its last reply; `last` is the one that was written to last."""
        row = next(self._db.query(f"{_PROGRAM} {_which(program)}", [program] if program != "last" else []), None)
        if row is None:
            known = "There is no program yet." if program == "last" else f"There is no program {program!r}."
            raise UnknownProgram(f"{known} See: assistant agent --list")
        found = _program_of(row)
        found.calls = self._open_calls(self.find(found.conversation))
        return found

    def programs(self) -> list[Program]:
        """All programs, the one written to last first, without their calls."""
        return [_program_of(row) for row in self._db.query(f"{_PROGRAM} ORDER BY p.updated DESC, p.rowid DESC")]

    def change_program(self, program: str, change: ProgramChange) -> None:
        """Say how a program goes on or ended."""
        fields = change.model_dump(exclude_none=True)
        if "about" in fields:
            fields["about"] = json.dumps(fields["about"])
        if "state" in fields:
            fields["reason"] = change.reason
        columns = "".join(f"{column} = ?, " for column in fields)
        with self._commit():
            self._db.execute(
                f"UPDATE programs SET {columns}updated = ? WHERE id = ?", [*fields.values(), now(), program]
            )

    def begin_step(self, program: str, text: str | None = None) -> Step:
        """Commit what the tools said as turns, and a pending reply after them.

        A last reply that is not whole, or with which the run ended without an answer, is left aside and written again.

        Raises:
            UsageError: a call of the last reply has not ended, or the program has nothing to answer.
        """
        about = self.program(program)
        conversation = self.find(about.conversation)
        with self._commit():
            tip = self._last_whole(conversation)
            tip = self._store_results(conversation, tip, about, text)
            reply = self._insert(conversation, tip, "assistant", "", "pending")
            self._db.execute("UPDATE programs SET state = 'running', reason = NULL WHERE id = ?", [about.id])
        arrived = datetime.fromisoformat(about.created).timestamp()
        return Step(Begun(conversation, tip, reply), about.conversation, about.tools, arrived)

    def change_call(self, program: str, call: int, change: CallChange) -> CallRow:
        """A tool of a program begins, or has ended with a result. A call that has ended stays as it is."""
        if not self._belongs(program, call):
            raise UnknownProgram(f"There is no call {call} in the program {program!r}.")
        ended = change.state != "running"
        if ended and change.result is None:
            raise UsageError("A call ends with a result.")
        said = {"call": call, "state": change.state, "result": change.result, "now": now()}
        with self._commit():
            if ended:
                self._db.execute(
                    """UPDATE calls SET state = :state, result = :result, ended = :now,
                              seconds = (julianday(:now) - julianday(started)) * 86400.0
                       WHERE id = :call AND state IN ('asked', 'running')""",
                    said,
                )
            else:
                self._db.execute(
                    "UPDATE calls SET state = 'running', started = :now WHERE id = :call AND state = 'asked'", said
                )
        return _call_of(next(self._db.query("SELECT * FROM calls WHERE id = ?", [call])))

    def lose_calls(self, program: str) -> None:
        """End calls that ran when their agent died: what became of them is not known, and they are not repeated.

        Raises:
            Conflict: the program has answered.
        """
        for call in self._open_program(program).calls:
            if call.state == "running":
                self.change_call(program, call.id, CallChange(state="failed", result=_LOST))

    def fork_program(self, program: str) -> str:
        """Begin a program with everything this one has done; its id. What is read already is not read again.

        Raises:
            Conflict: the program has answered.
        """
        about = self._open_program(program)
        with self._commit():
            last = self._last_whole(self.find(about.conversation))
        name = self.fork(about.conversation, last)
        fork = secrets.token_hex(6)
        with self._commit():
            self._db.execute("UPDATE conversations SET archived = 1 WHERE name = ?", [name])
            self._db.execute(
                """INSERT INTO programs (id, conversation_id, task, tools, about, state, created, updated)
                   SELECT ?, ?, task, tools, about, 'stopped', ?, ? FROM programs WHERE id = ?""",
                [fork, self.find(name), now(), now(), about.id],
            )
            self._db.execute(
                """INSERT INTO calls (turn_id, position, tool, arguments, state, result, started, ended)
                   SELECT t.id, c.position, c.tool, c.arguments, c.state, c.result, c.started, c.ended
                   FROM turns t JOIN calls c ON c.turn_id = t.copy_of WHERE t.conversation_id = ?""",
                [self.find(name)],
            )
        return fork

    def note_approval(self, row: ApprovalRow) -> None:
        """Commit a decision on a call."""
        if row.program is not None:
            self.program(row.program)
        with self._commit():
            self._db.execute(
                "INSERT INTO approvals (program_id, tool, record, created) VALUES (?, ?, ?, ?)",
                [row.program, row.tool, json.dumps(row.record), now()],
            )

    def approvals(self) -> list[ApprovalRow]:
        """Every decision, the oldest first."""
        rows = self._db.query("SELECT program_id AS program, tool, record, created FROM approvals ORDER BY id")
        return [ApprovalRow(**{**row, "record": json.loads(row["record"])}) for row in rows]

    def _open_program(self, program: str) -> Program:
        about = self.program(program)
        if about.state == "done":
            raise Conflict(_ANSWERED.format(about.id))
        return about

    def _belongs(self, program: str, call: int) -> bool:
        row = self._db.execute(
            """SELECT 1 FROM calls k JOIN turns t ON t.id = k.turn_id
               JOIN programs p ON p.conversation_id = t.conversation_id WHERE k.id = ? AND p.id = ?""",
            [call, program],
        ).fetchone()
        return row is not None

    def _last_whole(self, conversation: str) -> int:
        """The last turn of the path; replies that did not become whole are taken off it."""
        rows = self._db.execute(
            "SELECT id, role, state FROM turns WHERE conversation_id = ? AND shown ORDER BY depth DESC", [conversation]
        ).fetchall()
        broken = [row[0] for row in rows if row[1] == "assistant" and row[2] != "done"]
        self._db.conn.executemany("UPDATE turns SET shown = 0 WHERE id = ?", [(turn,) for turn in broken])
        return next(int(row[0]) for row in rows if row[0] not in broken)

    def _store_results(self, conversation: str, tip: int, about: Program, text: str | None) -> int:
        calls = [call for call in about.calls if call.turn == tip]
        if waiting := [call.tool for call in calls if call.result is None]:
            raise Conflict(f"The program {about.id} waits for {', '.join(waiting)}; end these calls first.")
        said = [call.result for call in calls if call.result is not None] + ([text] if text else [])
        role = self._db.execute("SELECT role FROM turns WHERE id = ?", [tip]).fetchone()[0]
        if role == "assistant" and not said:
            return self._without(tip, about)
        for result in said:
            tip = self._insert(conversation, tip, "tool", result, "done")
        return tip

    def _without(self, reply: int, about: Program) -> int:
        """Take the last reply off the path of a program that ended without an answer; the turn before it."""
        if about.state not in ("stopped", "failed"):
            raise Conflict(_ANSWERED.format(about.id))
        self._db.execute("UPDATE turns SET shown = 0 WHERE id = ?", [reply])
        return int(self._db.execute("SELECT parent FROM turns WHERE id = ?", [reply]).fetchone()[0])

    def _open_calls(self, conversation: str) -> list[CallRow]:
        """The calls of the last whole reply, as long as nothing was said after it."""
        rows = self._db.query(
            """SELECT k.* FROM calls k WHERE k.turn_id = (
                   SELECT t.id FROM turns t WHERE t.conversation_id = ? AND t.shown AND NOT
                       (t.role = 'assistant' AND t.state <> 'done') ORDER BY t.depth DESC LIMIT 1)
               ORDER BY k.position""",
            [conversation],
        )
        return [_call_of(row) for row in rows]


def _which(program: str) -> str:
    return "ORDER BY p.updated DESC, p.rowid DESC LIMIT 1" if program == "last" else "WHERE p.id = ?"


def _program_of(row: dict[str, object]) -> Program:
    return Program(**row | {"tools": json.loads(str(row["tools"])), "about": json.loads(str(row["about"]))})


def _call_of(row: dict[str, object]) -> CallRow:
    kept = ("id", "tool", "state", "result", "seconds")
    arguments = json.loads(str(row["arguments"]))
    return CallRow(turn=row["turn_id"], arguments=arguments, **{key: row[key] for key in kept})
