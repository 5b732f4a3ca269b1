# GNU General Public License v3.0+ (see LICENSE)
"""Carry a file or a folder between a host and the controller, through Ansible's own connection, piece by piece.

Database hosts need no trust in one another, and nothing but a shell and the coreutils. A transfer that was cut goes on
where it stopped. While it goes on, a line is printed every few seconds, as for a plan.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

PIECE = 16 * 1024 * 1024


if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as Waiting

else:
    Waiting = action_loader.get("sauvegarde_waiting", class_only=True)


class ActionModule(Waiting):
    _carried = _all = 0  # bytes

    def _work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Pull or push."""
        arguments = self._task.args
        unknown = set(arguments) - {"src", "dest", "direction"}
        if unknown or not arguments.get("src") or not arguments.get("dest"):
            raise AnsibleActionFail("sauvegarde_transfer takes src, dest and direction (pull or push).")
        pull = arguments.get("direction", "pull") == "pull"
        if self._task.check_mode:
            return {"changed": True, "bytes": 0}
        moved = (self._pull if pull else self._push)(arguments["src"], arguments["dest"])
        return {"changed": bool(moved), "bytes": moved, "dest": arguments["dest"]}

    def _so_far(self) -> str:
        """Return how much has been carried."""
        return f"{self._carried / 1e6:.1f} of {self._all / 1e6:.1f} MB, {super()._so_far()}"

    def _command(self, command: str, data: bytes | None = None) -> str:
        """Return the output of a command on the host. Raises AnsibleActionFail."""
        # find fails where it may not come back to the login's own folder, which is another user's.
        answer = self._patiently(self._shell, "cd / && " + command, data)
        if answer["rc"]:
            raise AnsibleActionFail("\n".join([command, answer["stdout"].strip(), answer["stderr"].strip()]))
        return str(answer["stdout"])

    def _files_at(self, path: str) -> dict[str, int]:
        """Return {relative name: bytes} of the files at a path on the host; '' names a file itself."""
        listed = self._command("if test -e {0}; then find {0} -type f -printf '%s %P\\n'; fi".format(shlex.quote(path)))
        files = {}
        for line in listed.splitlines():
            size, _, name = line.partition(" ")
            files[name] = int(size)
        return files

    def _same(self, path: Path, remote: str, count: int) -> bool:
        """Return whether both sides begin with the same `count` bytes: another file is not continued."""
        if not count:
            return True
        digest = self._command(f"head -c {count} -- {shlex.quote(remote)} | sha256sum")
        return bool(digest.split()[0] == self._patiently(self._digest, path, count))

    @staticmethod
    def _digest(path: Path, count: int) -> str:
        """Return the SHA-256 of the first bytes of a file."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while count > file.tell():
                digest.update(file.read(min(PIECE, count - file.tell())))
        return digest.hexdigest()

    def _pull(self, src: str, dest: str) -> int:
        """Carry from the host; return the number of bytes carried."""
        files = self._files_at(src)
        if not files:
            raise AnsibleActionFail(f"There is nothing at {src} on the host.")
        moved = 0
        root = Path(dest)
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        have = sum(each.stat().st_size for each in (root, *root.rglob("*")) if each.is_file())
        free = shutil.disk_usage(root.parent).free
        self._all = sum(files.values())
        self._require_space("the controller", dest, self._all - have, free)
        for name, size in sorted(files.items()):
            target = root / name if name else root
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.touch(mode=0o600)
            have = target.stat().st_size
            if have > size or not self._same(target, f"{src}/{name}" if name else src, have):
                have = 0
            self._carried += have
            with target.open("r+b") as file:
                file.truncate(have)
                file.seek(have)
                while have < size:
                    piece = base64.b64decode(self._piece(f"{src}/{name}" if name else src, have))
                    if not piece:
                        raise AnsibleActionFail(f"{src}/{name} became shorter while it was read.")
                    file.write(piece)
                    have += len(piece)
                    moved += len(piece)
                    self._carried += len(piece)
        return moved

    @staticmethod
    def _require_space(where: str, path: str, needed: int, free: int) -> None:
        """Raise AnsibleActionFail if there is too little space."""
        if needed > free:
            raise AnsibleActionFail(
                f"There is too little space on {where} for {path}.\n"
                f"{needed} bytes have to be carried there, {free} are free.\nFix: Free some space there."
            )

    def _piece(self, path: str, start: int) -> str:
        """Return a piece of a file on the host, as base64."""
        return self._command(f"tail -c +{start + 1} -- {shlex.quote(path)} | head -c {PIECE} | base64 -w 0")

    def _push(self, src: str, dest: str) -> int:
        """Carry to the host; return the number of bytes carried."""
        root = Path(src)
        files = {"": root} if root.is_file() else {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
        if not files:
            raise AnsibleActionFail(f"There is nothing at {src} on the controller.")
        existing = self._files_at(dest)
        parent = shlex.quote(str(Path(dest).parent))
        free = self._command(f"umask 077 && mkdir -p -- {parent} && df --output=avail -B1 -- {parent} | tail -n 1")
        self._all = sum(path.stat().st_size for path in files.values())
        self._require_space("the target", dest, self._all - sum(existing.values()), int(free))
        moved = 0
        for name, path in sorted(files.items()):
            target = shlex.quote(f"{dest}/{name}" if name else dest)
            size, have = path.stat().st_size, existing.get(name, 0)
            same = have <= size and self._same(path, f"{dest}/{name}" if name else dest, have)
            have = have if same else 0
            self._carried += have
            if same and name in existing and have == size:
                continue
            if not have:
                self._command(f'umask 077 && mkdir -p -- "$(dirname -- {target})" && : > {target}')
            with path.open("rb") as file:
                file.seek(have)
                while piece := file.read(PIECE):
                    try:
                        self._command(f"base64 -d >> {target}", base64.b64encode(piece))
                    except AnsibleActionFail:
                        # Unlike a link that breaks, a full disk needs its space back.
                        self._command(f"rm -f -- {target}")
                        raise
                    moved += len(piece)
                    self._carried += len(piece)
        return moved
