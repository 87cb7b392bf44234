# Somebody is logged in from the allowed client, by the API's port as others are by that of SSH: the login record names
# the process that serves them, into which the hardened unit can't look.
ip netns exec clients bash -c 'exec 3<>/dev/tcp/192.0.2.2/8080; echo $$ >/run/login; exec sleep 600' &
check "somebody is logged in" soon test -s /run/login
login() {
	perl -e 'print pack("s x2 l a32 a4 a32 a256 x4 l l l C4 x12 x20", 7, $ARGV[0], "pts/0", "0", "root", "", 1, time, 0,
		split(/\./, $ARGV[1]))' "$(systemctl show -P MainPID api)" $ALLOWED >/run/utmp
}
login
check "who(1) knows them" sh -c 'who | grep pts/0'

plan=$(plan)
lockout='{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
	"Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "198.18.0.0/15"}}}}'
echo "$lockout" >/etc/ipfilter/policy.json
check "systemctl reload does not lock them out" fails systemctl reload ipfilter
check "the journal says whom it would have" \
	sh -c 'journalctl --no-pager --boot --unit=ipfilter --output=cat | grep "would cut off 198.51.100.10.*who(1).*port 8080"'
check "the plan stays" is "$plan" plan
check "so does their way in" is 200 http $ALLOWED
check "a shell is refused too" ends 2 ipfilter reload
check "and one that comes by SSH from there, whatever the login records say" \
	ends 2 env SSH_CONNECTION="$ALLOWED 51234 192.0.2.2 8080" ipfilter reload
echo "$said" | grep 'SSH_CONNECTION'
check "with --force it is put in force, on trial" ipfilter reload --force --confirm 10s
check "so they are refused" is 403 http $ALLOWED
check "nobody confirms, and they are let in again" soon is 200 http $ALLOWED
check "by the plan before" is "$plan" plan
check "which the journal says" \
	sh -c 'journalctl --no-pager --boot --priority=err --unit=ipfilter --output=cat | grep "not confirmed, so the change is rolled back"'

check "once more, and the process is killed" ipfilter reload --force --confirm 10s
kill -9 "$(systemctl show -P MainPID ipfilter)"
check "the one that systemd starts rolls it back" soon is "$plan" plan
check "they are let in" soon is 200 http $ALLOWED
: >/run/utmp
check "logged out, nobody is locked out" ipfilter reload --confirm 10m
check "it can be confirmed" ipfilter confirm
kill -9 "$(systemctl show -P MainPID ipfilter)"
check "what is confirmed stays" soon sh -c 'systemctl is-active ipfilter && ipfilter --instance default status | grep "kept current by"'
check "in force" is 403 http $ALLOWED
kill "$(cat /run/login)"
