#!/bin/sh
# Writes a random password for each secret of compose.yaml that has none yet.
#
# SECURITY: compose mounts these files as they are, with the host's owner and mode, and the containers run as other
# users. So each file can be read by all, and the folder around them by its owner only.
set -eu

folder=$(dirname -- "$0")/secrets
mkdir -p -- "$folder"
chmod 0700 -- "$folder"
for name in postgres_password replication_password gateway_password; do
    file=$folder/$name
    if [ ! -s "$file" ]; then
        # Written beside and renamed: a broken-off run leaves no empty password behind.
        head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$file.new"
        chmod 0444 -- "$file.new"
        mv -f -- "$file.new" "$file"
        echo "$file written"
    fi
done
