#!/usr/bin/env bash
# The OpenStack command line client, unmodified, against a running service, with a login by password:
#   OPENSTACK=path/to/openstack clients/openstack/round_trip.sh READY_FILE
# Ends with an error at the first surprise.
set -euo pipefail
openstack=${OPENSTACK:-openstack}
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
surprise() { echo "SURPRISE: $*" >&2; exit 1; }

export OS_IDENTITY_API_VERSION=3
OS_REGION_NAME=$(field "$1" region); export OS_REGION_NAME
OS_USERNAME=$(field "$1" user_name); export OS_USERNAME
OS_PASSWORD=$(field "$1" password); export OS_PASSWORD
OS_USER_DOMAIN_NAME=$(field "$1" domain_name); export OS_USER_DOMAIN_NAME
OS_PROJECT_NAME=$(field "$1" project_name); export OS_PROJECT_NAME
export OS_PROJECT_DOMAIN_NAME=$OS_USER_DOMAIN_NAME
OS_AUTH_URL=$(field "$1" api_url)/v3; export OS_AUTH_URL
project_id=$(field "$1" project_id)

id=$("$openstack" server group create --policy anti-affinity -f value -c id web)
echo "created web: $id"
[ "$("$openstack" server group create --policy anti-affinity -f value -c project_id db)" = "$project_id" ] ||
    surprise "a group is shown in another project"
[ "$("$openstack" server group list -f value -c Name | tr '\n' ' ')" = "web db " ] || surprise "the list is another"
echo "listed both"
first=$("$openstack" server group list --limit 1 -f value -c Name)
[ "${first%%$'\n'*}" = web ] || surprise "the first is not web: $first"
# It asks for /os-server-groups/web first, is told 404, and finds the name in the list.
for name in web "$id"; do
    [ "$("$openstack" server group show -f value -c id "$name")" = "$id" ] || surprise "$name is another group"
    echo "showed $name"
done
if said=$("$openstack" server group create --policy affinity far 2>&1); then surprise "affinity was taken"; fi
grep -q "is not one of" <<<"$said" || surprise "$said"
echo "refused affinity: $said"
"$openstack" server group delete web "$("$openstack" server group show -f value -c id db)"
if "$openstack" server group show web >/dev/null 2>&1; then surprise "web is still there"; fi
[ -z "$("$openstack" server group list -f value)" ] || surprise "something is still there"
echo "deleted both"

token=$("$openstack" token issue -f value -c id)
"$openstack" token revoke "$token"
if OS_AUTH_TYPE=v3token OS_TOKEN=$token "$openstack" token issue >/dev/null 2>&1; then
    surprise "a revoked token is good"
fi
echo "revoked a token"
versions=$("$openstack" versions show -f value)
grep -q "compute 2.1 CURRENT .* 2.1 2.60" <<<"$versions" || surprise "no Nova 2.1 to 2.60: $versions"
for type in compute identity ecs cts; do
    [ "$("$openstack" catalog show -f value -c type "$type")" = "$type" ] || surprise "no $type in the catalog"
done
echo "found the versions and the catalog"
if OS_PASSWORD=wrong "$openstack" token issue >/dev/null 2>&1; then surprise "a wrong password was taken"; fi
echo "all as expected"
