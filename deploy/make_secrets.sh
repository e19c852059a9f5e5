#!/bin/sh
# Makes the files in secrets/ that compose.yaml mounts: random, made once, never overwritten.
set -eu
# Compose mounts each file with its permissions, and the services, which run as other users, must
# read it. So the folder keeps this machine's other users out (0700), not the file.
umask 022
mkdir -p secrets
chmod 0700 secrets

random() { head -c "$1" /dev/urandom | base64 | tr -d '\n'; }

make_secret() {
    if [ -e "secrets/$1" ]; then
        echo "secrets/$1 is kept"
        return
    fi
    # Complete or absent: it gets its name after it is written.
    printf %s "$2" >"secrets/$1.new"
    chmod 0444 "secrets/$1.new"
    ln "secrets/$1.new" "secrets/$1"
    rm -f "secrets/$1.new"
    echo "secrets/$1 is made"
}

make_secret postgres_password "$(random 33)"
make_secret master_db_password "$(random 33)"
make_secret secret_key "$(random 48)"
# A Fernet key: 32 bytes in the URL-safe alphabet.
make_secret credential_keys "$(random 32 | tr '+/' '-_')"
