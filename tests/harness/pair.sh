# Sourced by the scripts that need a real aggregator with a real agent: starts both in a directory of their own, on
# loopback, and ends them with the script. Sets $dir and $agent; `aggregator` runs a command of the aggregator.
#   start_pair BIN HTTP_PORT QUIC_PORT [arguments of the agent]
children=()
root=$(mktemp -d)
dir=$root/var
mkdir "$dir"

stop_pair() {
  trap - EXIT
  for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null || :; done
  wait
  ! mountpoint -q "$dir" || umount "$dir"
  rm -rf "$root"
}
trap stop_pair EXIT
trap 'exit 1' INT TERM

aggregator() { "$bin/lapwing-aggregator" "$@" --data-dir "$dir"; }

start_pair() {
  bin=$1
  local http=$2 quic=$3
  shift 3
  export LAPWING__HTTP__LISTEN=127.0.0.1:$http LAPWING__INGEST__LISTEN=127.0.0.1:$quic
  "$bin/lapwing-aggregator" run --data-dir "$dir" 2>"$dir/aggregator.log" &
  children+=($!)
  until [ -S "$dir/control.sock" ] && aggregator host list >/dev/null 2>&1; do
    kill -0 "${children[0]}" 2>/dev/null || { cat "$dir/aggregator.log" >&2; exit 1; }
    sleep 0.1
  done
  local token
  token=$(aggregator token create | tail -n 1)
  env -u LAPWING__HTTP__LISTEN -u LAPWING__INGEST__LISTEN "$bin/lapwing-agent" run \
    --state-dir "$dir/agent" --aggregator "127.0.0.1:$quic" --join "$token" "$@" 2>"$dir/agent.log" &
  agent=$!
  children+=("$agent")
}
