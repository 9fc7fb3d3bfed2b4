"""Verifies what `ecs-groupd audit export` wrote, with nothing of ecs-groupd in it:

    verify_log.py EXPORT KEYS

KEYS is a file of public keys (NAME+HASH+KEY), one a line. Exit code 0: good; 1: not, and the first thing that is wrong.
The format: a first line, a record a line, a checkpoint a line, a last line; RFC 6962 hashes; C2SP signed notes and
checkpoints.
"""

import base64
import hashlib
import json
import sys
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

OURS = "ecs-groupd:audit:"
CHECKPOINT, LAST = b'{"checkpoint":', b'{"last":'


class Bad(Exception):
    """The log, and what is wrong with it."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Tree:
    """The perfect subtrees over the records so far, from the largest to the smallest."""

    def __init__(self, size, hashes):
        self.size, self.hashes = size, [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
        if len(hashes) != 32 * bin(size).count("1"):
            raise Bad("tells an edge of the tree that is none")

    def push(self, line):
        self.size += 1
        self.hashes.append(sha256(b"\0", line))
        while bin(self.size).count("1") < len(self.hashes):
            right, left = self.hashes.pop(), self.hashes.pop()
            self.hashes.append(sha256(b"\1", left, right))

    def root(self):
        whole = self.hashes[-1] if self.hashes else sha256()
        for left in self.hashes[-2::-1]:
            whole = sha256(b"\1", left, whole)
        return whole


def open_note(note, keys):
    """The text, and which key signed it."""
    end, signer = note.rindex("\n\n") + 1, None
    for line in note[end + 1 :].splitlines():
        dash, name, signature = line.split(" ")
        signature = base64.b64decode(signature)
        for key in keys:
            key_name, key_id, public = key.split("+", 2)
            typed = base64.b64decode(public)
            own_id = sha256(key_name.encode() + b"\n", typed)[:4]
            if dash != "\u2014" or own_id.hex() != key_id or typed[0] != 1:
                raise Bad("it is not a signed note, or a key is none")
            if (key_name, own_id) == (name, signature[:4]):
                try:
                    Ed25519PublicKey.from_public_bytes(typed[1:]).verify(signature[4:], note[:end].encode())
                except InvalidSignature:
                    raise Bad("it has a signature that is wrong") from None
                signer = signer or key
    if signer is None:
        raise Bad("it is not signed by a key that is trusted here")
    return note[:end], signer


class Log:
    def __init__(self, tree, trusted, notes):
        self.tree, self.trusted, self.known, self.in_force = tree, list(trusted), list(trusted), None
        self.agreed, self.start, self.named = [], tree.size, None
        # Size, note, fault, signer, root of the log at that size.
        self.claims = [[int(note.split("\n")[1]), note, "", None, None] for note in notes]
        self.good, self.time, self.losses, self.after_loss = tree.size, 0, [], False
        self.compare()

    def compare(self):
        """Every checkpoint of the size that the log has come to."""
        for claim in [claim for claim in self.claims if claim[0] == self.tree.size]:
            claim[4] = base64.b64encode(self.tree.root()).decode()
            self.judge(claim)
        if any(claim[0] == self.tree.size and not claim[2] for claim in self.claims):
            self.good = self.tree.size

    def judge(self, claim):
        claim[2], claim[3] = "", None
        try:
            text, claim[3] = open_note(claim[1], self.known)
            if text != f"{claim[3].split('+')[0]}\n{claim[0]}\n{claim[4]}\n":
                since = f"at least one of the records {self.good + 1}\u2013{claim[0]} was"
                raise Bad(f"the log up to there is not what was signed: {since} changed, added or taken away")
        except Bad as bad:
            claim[2] = str(bad)

    def record(self, line):
        record, expected = json.loads(line), self.tree.size + 1
        seq = record["seq"]
        if seq > expected:
            raise Bad(f"record {expected} is missing: what follows is record {seq}")
        if seq < expected:
            raise Bad(f"record {seq}: it stands where record {expected} should")
        if record["v"] != 1 or uuid.UUID(record["trace_id"]).int >> 80 != seq:
            raise Bad(f"record {seq}: its trace_id is that of another record, or its version is not 1")
        if record["record_time"] < self.time:
            raise Bad(f"record {seq}: its record_time goes back behind that of the record in front of it")
        self.time = record["record_time"]
        after_loss, self.after_loss = self.after_loss, False
        if record["outcome"] == "done" and record["action"] == OURS + "acceptLoss":
            self.losses.append((seq, record["asked"]["found_size"], record["asked"]["expected_size"]))
            self.after_loss = True
        elif record["outcome"] == "done" and record["action"] == OURS + "changeKey":
            self.change_key(seq, record["asked"], after_loss)
        self.tree.push(line)
        self.compare()

    def change_key(self, seq, asked, after_loss):
        old, new, note = asked["old"], asked["new"], asked["signed"]
        if old != (self.in_force or old) or (old is None and self.in_force):
            raise Bad(f"record {seq}: it puts a new key in the place of {old}, which is not {self.in_force}")
        if old and note is None and not after_loss:
            raise Bad(f"record {seq}: it puts a new key in force without the old one's agreement")
        if old and note is not None:
            for key, whose in [(old, "the old one's agreement"), (new, "that key's own signature")]:
                try:
                    text, _ = open_note(note, [key])
                except Bad as bad:
                    raise Bad(f"record {seq}: it puts a new key in force, and {whose}: {bad}") from None
            if text != f"ecs-groupd checkpoint key\n{old}\n{new}\n":
                raise Bad(f"record {seq}: it puts a new key in force, and what was signed is about other keys")
            self.agreed.append((old, new))
            self.known.append(old)
        self.in_force, self.known, self.named = new, [*self.known, new], self.named or (seq, new)

    def finish(self):
        for by, other in self.agreed + [(new, old) for old, new in reversed(self.agreed)]:
            self.trusted += [other] if by in self.trusted else []
        for claim in self.claims:
            if claim[2].startswith("it is not signed by a key"):  # The log may have told of it since.
                self.judge(claim)
        for at, (size, _, fault, signer, _) in enumerate(self.claims):
            if signer is None and not fault:
                fault = f"the log ends at record {self.tree.size}: its end was cut off"
            if fault and not self.is_given_up(at, size):
                raise Bad(f"checkpoint {at + 1} of size {size}: {fault}")
        if self.claims and not self.claims[-1][2] and self.claims[-1][3] not in self.trusted:
            size, signer = self.claims[-1][0], self.claims[-1][3]
            raise Bad(f"checkpoint of size {size}: it is signed by {signer}, which is no key that is trusted here")

        covered = max((claim[0] for claim in self.claims if not claim[2] and claim[3] in self.trusted), default=0)
        if covered < self.start:
            what = "no checkpoint behind them vouches for the hashes in their place"
            raise Bad(f"records 1\u2013{self.start} are not here, and {what}")
        if not covered and self.named:
            seq, key = self.named
            what = "which signs at once, and no checkpoint is left: they were taken away"
            raise Bad(f"record {seq} names the key {key}, {what}")
        return covered

    def is_given_up(self, at, size):
        """Whether the log says so in a record that a checkpoint made after this one covers."""
        for seq, found, expected in self.losses:
            after = [place for place, claim in enumerate(self.claims) if claim[3] and not claim[2] and claim[0] >= seq]
            if (found >= expected or found < size <= expected) and after and at < after[0]:
                print(f"checkpoint {at + 1} of size {size}: given up with --accept-audit-loss in record {seq}")
                return True
        return False


def read_end(path):
    """The last line, and the checkpoints in front of it; no last line where there is none."""
    notes, size, last = [], 0, b""
    with open(path, "rb") as file:
        for last in file:
            if last.startswith(CHECKPOINT):
                notes.append(json.loads(last)["checkpoint"])
                size += len(last)
    if not last.startswith(LAST) or not last.endswith(b"\n"):
        return None, []
    end = json.loads(last)
    if (end["checkpoints"], end["checkpoint_bytes"]) != (len(notes), size):
        raise Bad("it has a last line that tells of other checkpoints than stand in front of it")
    return end, notes


def verify(path, keys):
    end, notes = read_end(path)
    with open(path, "rb") as file:
        first, is_behind = json.loads(next(file)), False
        log = Log(Tree(first["first"] - 1, base64.b64decode(first["hashes"])), keys, notes)
        for line in file:
            if line.startswith(LAST) or not line.endswith(b"\n"):
                break
            if line.startswith(CHECKPOINT):
                is_behind = True
            elif is_behind:
                raise Bad("it has a line that should be a checkpoint and is not written as one: it was changed")
            else:
                log.record(line[:-1])
    if end is None:
        raise Bad(f"it has no last line that tells its end: it was cut, behind record {log.tree.size}")
    covered = log.finish()
    if (end["last"], base64.b64decode(end["hashes"])) != (log.tree.size, b"".join(log.tree.hashes)):
        raise Bad(f"its last line: its hashes are not those of the tree over the records up to {log.tree.size}")
    return f"verified: records {first['first']}\u2013{log.tree.size}, covered up to record {covered}"


if __name__ == "__main__":
    try:
        with open(sys.argv[2], encoding="utf-8") as lines:
            trusted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        print(verify(sys.argv[1], trusted))
    except (Bad, ValueError, KeyError, TypeError) as bad:
        sys.exit(f"{type(bad).__name__}: {bad}")
