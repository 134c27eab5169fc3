# A job's life by Nomad's own command line: sh life.sh STEP NAME IMAGE COMMAND...
set -eu
step=$1 name=$2 image=$3
shift 3

# A batch job of one task, which runs the words that follow.
run() {
    arguments=
    program=$1
    shift
    for argument; do arguments="$arguments\"$argument\","; done
    nomad job run - >/dev/null <<JOB
job "$name" {
  datacenters = ["dc1"]
  type = "batch"
  group "sandbox" {
    restart {
      attempts = 0
      mode = "fail"
    }
    reschedule {
      attempts = 0
      unlimited = false
    }
    task "sandbox" {
      driver = "docker"
      config {
        image = "$image"
        network_mode = "none"
        command = "$program"
        args = [$arguments]
      }
      resources {
        cpu = 20
        memory = 64
      }
    }
  }
}
JOB
}

# Asks again until what follows succeeds: no word of the command line's waits for a task.
until_true() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || {
            echo "in vain, $tries times: $*" >&2
            nomad job stop -detach -purge "$name" >/dev/null
            exit 1
        }
    done
}

# All of its tasks have ended, or it was stopped.
is_dead() { [ "$(nomad job inspect -t '{{.Status}}' "$name")" = dead ]; }

# What it has printed is there, which may be later. To follow it would not end, though the task has.
has_logs() { logs=$(nomad alloc logs -job "$name") && [ -n "$logs" ]; }

case $step in
run)
    run "$@"
    until_true is_dead
    until_true has_logs
    printf '%s\n' "$logs"
    nomad job stop -detach -purge "$name" >/dev/null
    ;;
create) run /bin/sleep 3600 ;;
# It is placed, and may not have begun.
start) until_true nomad alloc exec -t=false -i=false -job "$name" /bin/true ;;
exec) nomad alloc exec -t=false -i=false -job "$name" "$@" ;;
remove) nomad job stop -detach -purge "$name" >/dev/null ;;
esac
