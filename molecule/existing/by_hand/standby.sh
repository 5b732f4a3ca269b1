#!/bin/sh
# A streaming replica (main) of a primary that this project knows nothing of; archives go to a network's file system.
set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
apt-get -q update
apt-get -qy install --no-install-recommends postgresql bindfs

useradd --create-home --shell /bin/bash --comment "Keeps the archives" archivist
useradd --create-home --shell /bin/bash ops
echo 'ops:canary-Zephyr-sudo' | chpasswd
echo 'ops ALL=(ALL:ALL) ALL' > /etc/sudoers.d/ops
install -D --owner=ops --mode=0600 /home/admin/.ssh/authorized_keys /home/ops/.ssh/authorized_keys

cd /
pg_dropcluster --stop 17 main
pg_createcluster --start --port 5433 --locale C.UTF-8 --encoding UTF8 17 primary
runuser -u postgres -- psql -Xq -p 5433 -v ON_ERROR_STOP=1 <<'SQL'
CREATE ROLE archivist LOGIN;
GRANT pg_read_all_data TO archivist;
CREATE ROLE shop LOGIN PASSWORD 'canary-Zephyr-shop';
CREATE DATABASE shop OWNER shop;
\c shop
CREATE TABLE orders AS SELECT n AS id, 'order ' || n AS title FROM generate_series(1, 100) n;
SQL
pg_createcluster --port 5432 17 main
rm -r /var/lib/postgresql/17/main
runuser -u postgres -- pg_basebackup -p 5433 -D /var/lib/postgresql/17/main --write-recovery-conf --checkpoint=fast
pg_ctlcluster 17 main start || systemctl start postgresql@17-main
install -d /mnt/nas /srv/nas /srv/nas/of_root
install -d --owner=archivist --mode=0755 /srv/nas/archives
touch /root/by_hand
