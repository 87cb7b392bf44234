# A network as on any Debian: ifupdown configures the card, after network-pre.target.
cat >/etc/network/interfaces <<'INTERFACES'
auto lo eth0
iface lo inet loopback
iface eth0 inet static
	address 192.0.2.2/24
	up ip route add 198.51.100.0/24 via 192.0.2.3
	up ip route add 203.0.113.0/24 via 192.0.2.3
	up ip route add 198.18.0.0/15 via 192.0.2.3
	up ip address add 2001:db8:2::2/64 dev eth0 nodad
	up ip route add 2001:db8:113::/48 via 2001:db8:2::3
INTERFACES
cat >/etc/systemd/system/api.service <<'API'
[Unit]
After=network.target
[Service]
ExecStart=/usr/bin/ipfilter mock --listen 0.0.0.0:8080
[Install]
WantedBy=multi-user.target
API
systemctl restart networking
clients

dpkg -i /opt/old.deb
check "the package is installed" is installed dpkg-query -Wf '${db:Status-Status}' ipfilter
check "its configuration is marked as such" grep -q /etc/ipfilter/ipfilter.json /var/lib/dpkg/info/ipfilter.conffiles
check "it comes disabled" is disabled systemctl is-enabled ipfilter
check "it comes stopped" is inactive systemctl is-active ipfilter
check "its policy is exact" ipfilter check /etc/ipfilter/policy.json
check "nothing is deployed" ends 1 ipfilter status
check "the units are well" systemd-analyze verify --man=no ipfilter.service ipfilter@late.service ipfilter-authorize.service ipfilter-authorize@late.service ipfilter-verify.service ipfilter-verify.timer
check "the authorization service comes disabled" is disabled systemctl is-enabled ipfilter-authorize
check "its user is there" id ipfilter-authorize
check "its hardening is good" systemd-analyze security --no-pager --threshold=20 ipfilter-authorize.service
check "the hardening is OK or better" systemd-analyze security --no-pager --threshold=50 ipfilter.service
systemd-analyze security --no-pager ipfilter.service | tail -n1
check "so is that of the verification" systemd-analyze security --no-pager --threshold=50 ipfilter-verify.service

systemctl enable --now api
check "everybody reaches the API" soon is 200 http $DENIED
check "as it comes, it starts" systemctl start ipfilter
check "as it comes, it turns nobody away" is 200 http $DENIED
check "it is verified daily" is active systemctl is-active ipfilter-verify.timer
check "it is verified now" systemctl start ipfilter-verify.service
ipfilter detach

cp /opt/policies/allow-list.json /etc/ipfilter/policy.json
cat >/etc/ipfilter/ipfilter.json <<'CONFIG'
{
  "interfaces": ["eth0"],
  "metrics": "127.0.0.1:9477",
  "authorize": { "listen": "unix:/run/ipfilter-authorize/authorize.sock", "stage": "prod" },
  "apis": [
    { "name": "api", "ports": [8080], "policy": "policy.json", "deny": "respond" },
    { "name": "stream", "ports": [9090], "protocols": ["udp"], "policy": "policy.json" }
  ]
}
CONFIG
streams
sleep 1
streamed
check "without the filter the denied stream comes, all of it" [ "$came_6" -gt 0 -a "$came_6" = "$denied" ]

check "it is enabled and started" systemctl enable --now ipfilter
check "a plain shell sees it, and whose it is" sh -c 'ipfilter status | grep "kept current by process $(systemctl show -P MainPID ipfilter)"'
check "systemd gets its status" sh -c '[ -n "$(systemctl show -P StatusText ipfilter)" ]'
systemctl show -P StatusText ipfilter
check "an allowed client gets its answer" is 200 http $ALLOWED
check "a denied one is refused" is 403 http $DENIED
check "another too" is 403 http $OTHER
check "its metrics can be scraped on this host" sh -c 'curl --silent http://127.0.0.1:9477/metrics | grep ^ipfilter_packets_total'
check "it says that it is well" curl --silent --fail http://127.0.0.1:9477/healthz

check "the authorization service starts" systemctl enable --now ipfilter-authorize
check "it has no privileges" sh -c 'grep -x "CapEff:.*0000000000000000" /proc/$(systemctl show -P MainPID ipfilter-authorize)/status'
check "it runs as its own user" is ipfilter-authorize sh -c 'stat -c %U /proc/$(systemctl show -P MainPID ipfilter-authorize)'
check "it allows what the policy allows" is 200 asked $ALLOWED
check "and denies what it denies" is 403 asked $DENIED
check "it names the plan in force" sh -c 'curl --silent --unix-socket /run/ipfilter-authorize/metrics.sock http://localhost/healthz | grep "$1"' sh "$(plan)"
check "another user can't read the policies" sh -c '! setpriv --reuid=nobody --clear-groups timeout 5 ipfilter-authorize --follow /run/ipfilter/default.policies 2>&1 | grep "ready"'

# From here to the power cut the denied stream must never come through.
streams
plan=$(plan)
check "a plan is in force" [ -n "$plan" ]
cp /opt/policies/deny-list.json /etc/ipfilter/policy.json
check "systemctl reload puts a policy in force" systemctl reload ipfilter
check "the plan is another" fails is "$plan" plan
check "by the new policy the other client gets its answer" is 200 http $OTHER
check "the denied one is still refused" is 403 http $DENIED
check "so does the authorization service, by then" is 200 asked $OTHER

plan=$(plan)
echo garbage >/etc/ipfilter/policy.json
check "a broken policy fails the reload" fails systemctl reload ipfilter
check "systemd knows that its exit code was 3" sh -c 'journalctl --no-pager --boot --unit=ipfilter | grep "status=3"'
check "so does a shell, with the reason" ends 3 sh -c 'ipfilter reload 2>&1 | tee /run/why; exit $(ipfilter reload >/dev/null 2>&1; echo $?)'
check "the reason names the file" grep -q policy.json /run/why
check "the old plan stays" is "$plan" plan
check "the unit is active" is active systemctl is-active ipfilter
cp /opt/policies/deny-list.json /etc/ipfilter/policy.json

pid=$(systemctl show -P MainPID ipfilter)
kill -9 "$pid"
check "killed, the filter is in place" is 403 http $DENIED
check "and the authorization service answers" is 200 asked $OTHER
check "systemd starts it anew" soon sh -c "systemctl is-active ipfilter && ! systemctl show -P MainPID ipfilter | grep -x $pid"
check "the one started anew adopts the plan" is "$plan" plan
check "it is reloaded as before" systemctl reload ipfilter

# The process holds its pins there.
umount --lazy /sys/fs/bpf
check "without the BPF file system the filter is in place" is 403 http $DENIED
mount -t bpf bpf /sys/fs/bpf
check "when that is back, the pins are put there again" soon sh -c 'ls /sys/fs/bpf/ipfilter/default/link_*'
check "and seen from a shell" ipfilter status

pid=$(systemctl show -P MainPID ipfilter)
check "the new version is installed" dpkg -i /opt/new.deb
check "its configuration was kept" grep -q respond /etc/ipfilter/ipfilter.json
check "the new version runs" soon sh -c "systemctl is-active ipfilter && ! systemctl show -P MainPID ipfilter | grep -x $pid"
check "a denied client is refused by it" is 403 http $DENIED
check "so does the authorization service of the new version" soon is 200 asked $OTHER
check "which denies the same" is 403 asked $DENIED
streamed
check "reloads, a kill, lost pins and an upgrade let nothing of the denied stream in" [ "$came_6" = 0 -a "$denied" -gt 100 ]
check "and lost nothing of the allowed one" [ "$came_4" = "$allowed" -a "$allowed" -gt 100 ]

sed 's/"eth0"/"late0"/; s/policy\.json/late-policy.json/' /etc/ipfilter/ipfilter.json >/etc/ipfilter/late.json
cp /opt/policies/allow-list.json /etc/ipfilter/late-policy.json
check "an instance starts before its interface is there" systemctl enable --now ipfilter@late
ip link add late0 type veth peer name late1
check "and filters it when it comes" soon sh -c 'ipfilter --instance late status | grep "late0"'
check "its own configuration is reloaded" systemctl reload ipfilter@late

# The clock of this machine may be set; a shell that waits by it may not, so nothing here waits.
# sets TIME: sets the clock to a time relative to now.
sets() {
	date --set="$(date --date="$1")" >/dev/null
}
check "an allowed client is blocked for an hour" ipfilter block $ALLOWED --for 1h
check "and refused" is 403 http $ALLOWED
check "the clock is set back by a day" sets '1 day ago'
check "the status says that" soon sh -c 'ipfilter --instance default status | grep "clock set.*back by"'
check "and the journal what it does" sh -c 'journalctl --no-pager --unit=ipfilter --output=cat | grep "the clock was set back by.*1 override ends later"'
check "the override has not ended" is 403 http $ALLOWED
check "it is listed" sh -c "ipfilter overrides | grep $ALLOWED"
check "the clock is set forward, past the end" sets '1 day 2 hours'
check "so the override ends" soon is 200 http $ALLOWED
check "the clock is set back once more" sets '2 hours ago'
check "what has ended stays ended" is 200 http $ALLOWED
check "no override is left" sh -c 'ipfilter overrides | grep "no overrides"'

# What is on disk at the next boot: a broken policy, the plan that was in force last, and a change of it that
# nobody has confirmed. Of the other instance the policy is not broken: it is the one that was tried.
cp /opt/policies/allow-list.json /etc/ipfilter/policy.json
check "a last good plan is put in force" systemctl reload ipfilter
late_plan() {
	ipfilter --instance late status | grep --max-count=1 --only-matching 'plan [0-9a-f]\{12\}'
}
late_plan >/var/lib/late-plan
cp /opt/policies/deny-list.json /etc/ipfilter/policy.json
cp /opt/policies/deny-list.json /etc/ipfilter/late-policy.json
sync
check "a change is put in force, to be confirmed" ipfilter reload --confirm 10m
check "so the other client gets its answer" is 200 http $OTHER
check "the status says so" sh -c 'ipfilter --instance default status | grep "on trial"'
check "the same for the other instance" ipfilter --instance late reload --confirm 10m
check "whose plan is another" fails is "$(cat /var/lib/late-plan)" late_plan
echo garbage >/etc/ipfilter/policy.json
sync /etc/ipfilter/policy.json
