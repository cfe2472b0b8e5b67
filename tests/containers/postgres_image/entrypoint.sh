#!/bin/bash
# Does what the documentation of the postgres image says of its entrypoint, with an empty data directory: initdb, the scripts in
# /docker-entrypoint-initdb.d while the server listens on its socket only, then the server as the first process.
set -euo pipefail
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    install --directory --owner postgres --group postgres --mode 0700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    read -ra initdb_arguments <<<"${POSTGRES_INITDB_ARGS:-}"
    initdb --username "$POSTGRES_USER" --pwfile <(echo "$POSTGRES_PASSWORD") "${initdb_arguments[@]}"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait start --options "$(printf '%q ' "${@:2}") --listen_addresses="
    for script in /docker-entrypoint-initdb.d/*.sql; do
        echo "running $script"
        psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --no-psqlrc --set ON_ERROR_STOP=1 --file "$script"
    done
    pg_ctl --wait --mode fast stop
fi
exec "$@"
