#!/usr/bin/env bash
# Who may do what on a Kafka with an authorizer: one user per service, one per domain for its producers.
#
#   acls.sh --print DOMAIN…                                            print the commands
#   acls.sh --bootstrap-server HOST:PORT [--command-config FILE] DOMAIN…   run them
#
# KAFKA_ACLS names Kafka's own tool (default kafka-acls.sh, from the PATH). Rules are only added. Nobody but the services writes mesh.*,
# with one exception: producers' spans. tests/tests/docs.rs holds the writers against proto/src/topics.rs.
set -euo pipefail

tool=${KAFKA_ACLS:-kafka-acls.sh}
connection=()
run() { "$tool" "${connection[@]}" "$@" >/dev/null; }
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }

case ${1:-} in
  --print) shift; run() { echo "$tool" "$@"; } ;;
  --bootstrap-server)
    connection=(--bootstrap-server "${2:-}"); shift 2 || usage
    if [ "${1:-}" = --command-config ]; then connection+=(--command-config "${2:-}"); shift 2 || usage; fi ;;
  *) usage ;;
esac
[ $# -gt 0 ] || usage

allow() { # USER WHAT… : --operation and a resource
  run --add --force --allow-principal "User:$1" "${@:2}"
}
prefixed() { # USER PREFIX OPERATION…
  local operations=(); for operation in "${@:3}"; do operations+=(--operation "$operation"); done
  allow "$1" "${operations[@]}" --resource-pattern-type prefixed --topic "$2"
}
writes() { # USER TOPIC…
  for topic in "${@:2}"; do allow "$1" --operation Write --operation Describe --topic "$topic"; done
}

for service in publisher ingest quality query; do
  # Whoever starts first makes the control topics; everybody checks how they are configured.
  prefixed "mesh-$service" mesh. Create Describe DescribeConfigs Read
  allow "mesh-$service" --operation Read --resource-pattern-type prefixed --group mesh-
  writes "mesh-$service" mesh.spans
done
writes mesh-publisher mesh.submissions mesh.contracts mesh.policies mesh.principals mesh.schemas mesh.contract-events \
  mesh.product-changes mesh.platform-changes mesh.announced
writes mesh-quality mesh.quality mesh.incidents
writes mesh-ingest mesh.audit
writes mesh-query mesh.audit mesh.lineage mesh.usage

for domain in "$@"; do
  prefixed mesh-publisher "$domain." Create Describe DescribeConfigs
  prefixed mesh-ingest "$domain." Describe DescribeConfigs Read
  prefixed "$domain" "$domain." Describe Write
  writes "$domain" mesh.spans
done
