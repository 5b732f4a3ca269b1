#!/bin/sh
# Makes a lab host of the fresh Debian in $1: what an installed server has, and nothing that a role should bring.
set -eu
root=$1

# No language is set: a role that needs one says so itself. The file is there, or every login logs a warning.
: > "$root/etc/default/locale"

chroot "$root" useradd --create-home --shell /bin/bash admin
echo 'admin ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/admin"
chmod 0440 "$root/etc/sudoers.d/admin"

# Whoever has logged in, his manager stays: a container's can hang for two minutes while it stops, and the next login (the
# next call of restic's by sftp) waits for it.
mkdir -p "$root/etc/systemd/logind.conf.d"
printf '[Login]\nUserStopDelaySec=infinity\n' > "$root/etc/systemd/logind.conf.d/lab.conf"

# Every host makes its own key, on its first boot.
rm -f "$root"/etc/ssh/ssh_host_*
cat > "$root/etc/ssh/sshd_config.d/lab.conf" <<'CONF'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
CONF
mkdir -p "$root/etc/systemd/system/ssh.service.d"
cat > "$root/etc/systemd/system/ssh.service.d/lab.conf" <<'CONF'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
CONF
chroot "$root" systemctl enable ssh.service

# No consoles, no mounts (a container may not make them), and no timer that takes apt's lock at its own hour.
chroot "$root" systemctl mask getty.target console-getty.service tmp.mount \
  apt-daily.timer apt-daily-upgrade.timer

# No package lists, as on a new server; and an old date on them, or Ansible takes the image's as that of an update.
# (mmdebstrap is told to leave this to us: its way ends with a new date.)
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/*
touch --date=@0 "$root/var/lib/apt/lists"
