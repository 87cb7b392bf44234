journalctl --no-pager --boot --output=short-monotonic --unit=ipfilter --unit=networking --unit=api --unit=network-pre.target
clients

# moment UNIT PROPERTY: in microseconds since the boot.
moment() {
	systemctl show --property="$2TimestampMonotonic" --value "$1"
}
check "the filter is ready before the network is configured" \
	[ "$(moment ipfilter.service ActiveEnter)" -lt "$(moment networking.service InactiveExit)" ]
check "and the API answers only after that" \
	[ "$(moment networking.service ActiveEnter)" -lt "$(moment api.service InactiveExit)" ]
check "with a broken policy the last good plan is in force, not the one on trial" is 403 http $OTHER
check "and an allowed client gets its answer" is 200 http $ALLOWED
check "the status reports that" sh -c 'ipfilter --instance default status | grep -i "degraded\|last good"'
check "and with a high priority in the journal" \
	sh -c 'journalctl --no-pager --boot --priority=err --unit=ipfilter --output=cat | grep -q .'
ipfilter --instance default status
check "it says that the change was not confirmed" \
	sh -c 'journalctl --no-pager --boot --priority=err --unit=ipfilter --output=cat | grep "not confirmed"'
check "no change is on trial" fails sh -c 'ipfilter --instance default status | grep "on trial"'
ip link add late0 type veth peer name late1
check "where the policy is that of the change, the plan before is in force all the same" \
	soon sh -c 'ipfilter --instance late status | grep "$(cat /var/lib/late-plan)"'
check "at its interface" soon sh -c 'ipfilter --instance late status | grep late0'
check "this instance is stopped" systemctl disable --now ipfilter@late
check "and detached" ipfilter --instance late detach

check "the authorization service started at boot" soon is 200 asked $ALLOWED
check "and has the last good plan" is 403 asked $OTHER

streams
cp /opt/policies/deny-list.json /etc/ipfilter/policy.json
check "a mended policy is put in force" systemctl reload ipfilter
check "so the other client gets its answer" is 200 http $OTHER
check "the process is stopped" systemctl stop ipfilter
check "the filter stays" is 403 http $DENIED
streamed
check "the denied stream never came" [ "$came_6" = 0 -a "$denied" -gt 20 ]
check "the allowed one came" [ "$came_4" = "$allowed" -a "$allowed" -gt 20 ]
check "it is started again" systemctl start ipfilter

cp /usr/bin/ipfilter /run/mock
systemctl stop api
/run/mock mock --listen 0.0.0.0:8080 &
check "the package is removed" dpkg -r ipfilter
check "the filter is off" soon is 200 http $DENIED
check "nothing is pinned" is "" sh -c 'ls /sys/fs/bpf/ipfilter 2>/dev/null'
check "nothing runs" fails systemctl is-active ipfilter ipfilter-authorize
check "the configuration is kept" [ -e /etc/ipfilter/ipfilter.json -a -d /var/lib/ipfilter ]
rm /etc/ipfilter/late.json /etc/ipfilter/late-policy.json
check "the package is purged" dpkg -P ipfilter
check "neither state nor configuration is left" \
	is "" sh -c 'ls -d /etc/ipfilter /var/lib/ipfilter /run/ipfilter /run/ipfilter-authorize /etc/systemd/system/*.wants/ipfilter* 2>/dev/null'
