#!/usr/bin/env bash
# One Apache Kafka 4.1 broker (KRaft) from its Maven artifacts: no Docker, no download page. Needs Java 17 and Maven.
#
#   kafka.sh start DIR [PORT]   start on 127.0.0.1:PORT (a free one by default), data and log under DIR; prints HOST:PORT.
#                               DIR/sasl holds the HOST:PORT of a listener with SASL_PLAINTEXT, SCRAM-SHA-256: user
#                               alice, password alice-secret
#   kafka.sh stop DIR           stop it; its data stays
#
# The jars are kept in MESHWORK_CACHE (default ~/.cache/meshwork).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MESHWORK_CACHE:-$HOME/.cache/meshwork}

fail() { echo "kafka.sh: $*" >&2; exit 1; }

fetch_jars() { # prints the folder that holds the jars of pom.xml
  local jars; jars=$cache/kafka-$(sha256sum "$here/pom.xml" | cut -c1-12)
  if [ ! -f "$jars/.complete" ]; then
    mkdir -p "$jars"
    mvn -B -q -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime "-DoutputDirectory=$jars" >&2 || fail "Maven could not fetch Kafka's jars; is Maven Central reachable?"
    touch "$jars/.complete"
  fi
  echo "$jars"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

write_config() { # DIR PORT CONTROLLER_PORT SASL_PORT
  cat >"$1/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$2,SASL://127.0.0.1:$4,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2,SASL://127.0.0.1:$4
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
inter.broker.listener.name=PLAINTEXT
log.dirs=$1/data
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=1000
P
}

is_broker() { # PID: after a restart of the machine the number may be another process's
  kill -0 "$1" 2>/dev/null && { [ ! -r "/proc/$1/cmdline" ] || grep -qa 'kafka\.Kafka' "/proc/$1/cmdline"; }
}

start() { # DIR [PORT]
  local dir=$1 port=${2:-} jars sasl
  port=${port:-$(free_port)}
  mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
  [ -f "$dir/pid" ] && is_broker "$(cat "$dir/pid")" && fail "a broker already runs in $dir"
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && fail "port $port is taken"
  jars=$(fetch_jars)
  sasl=$(free_port)
  write_config "$dir" "$port" "$(free_port)" "$sasl"
  [ -f "$dir/data/meta.properties" ] || java -Xmx128m -cp "$jars/*" kafka.tools.StorageTool format \
    -t "$(java -Xmx128m -cp "$jars/*" kafka.tools.StorageTool random-uuid 2>/dev/null)" -c "$dir/server.properties" \
    --add-scram 'SCRAM-SHA-256=[name=alice,password=alice-secret]' >/dev/null 2>&1 \
    || fail "could not format $dir/data"
  # An earlier start's log must not pass for this one's.
  rm -f "$dir/broker.log"; : >"$dir/broker.log"
  nohup java -Dlog4j2.level=INFO -Xms128m "-Xmx${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -cp "$jars/*" \
    kafka.Kafka "$dir/server.properties" >"$dir/broker.log" 2>&1 &
  echo $! >"$dir/pid"
  for _ in $(seq 300); do
    grep -q "Kafka Server started" "$dir/broker.log" && { echo "127.0.0.1:$sasl" >"$dir/sasl"; echo "127.0.0.1:$port"; return; }
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || fail "the broker ended; its log: $dir/broker.log"
    sleep 0.2
  done
  fail "the broker was not ready after 60 s; its log: $dir/broker.log"
}

stop() { # DIR
  local pid; pid=$(cat "$1/pid" 2>/dev/null) || return 0
  if is_broker "$pid"; then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do is_broker "$pid" || break; sleep 0.2; done
    ! is_broker "$pid" || kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$1/pid"
}

case ${1:-} in
start) [ $# -ge 2 ] || fail "start needs a DIR"; start "$2" "${3:-}" ;;
stop) [ $# -eq 2 ] || fail "stop needs a DIR"; stop "$2" ;;
*) sed -n '2,10p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
