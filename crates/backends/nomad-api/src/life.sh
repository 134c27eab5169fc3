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

# It is placed, and may not have begun.
begun() {
    until nomad alloc exec -job "$name" true >/dev/null 2>&1; do :; done
}

case $step in
run)
    run "$@"
    # To the end of what it prints.
    until nomad alloc logs -f -job "$name" 2>/dev/null; do :; done
    nomad job stop -detach -purge "$name" >/dev/null
    ;;
create) run /bin/sleep 3600 ;;
start) begun ;;
exec) nomad alloc exec -t=false -i=false -job "$name" "$@" ;;
remove) nomad job stop -detach -purge "$name" >/dev/null ;;
esac
