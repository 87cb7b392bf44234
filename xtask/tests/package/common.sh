# What both boots use: a line for each thing looked at, clients, streams of packets.
failed=0

# check WHAT COMMAND...: it must succeed.
check() {
	what=$1
	shift
	if out=$("$@" 2>&1); then
		echo "$(cut -d. -f1 /proc/uptime) s ok: $what"
	else
		code=$?
		failed=$((failed + 1))
		echo "FAILED: $what: \`$*\` ended with $code: $out"
		journalctl --no-pager --boot --lines=25 --output=short-precise --unit='ipfilter*'
		ipfilter status
	fi
}

# is WANTED COMMAND...: it must print this.
is() {
	wanted=$1
	shift
	got=$("$@" 2>&1)
	[ "$got" = "$wanted" ] || {
		echo "\`$got\` instead of \`$wanted\`"
		return 1
	}
}

# ends CODE COMMAND...: it must end with this exit code; what it says is kept in $said.
ends() {
	wanted=$1
	shift
	said=$("$@" 2>&1)
	got=$?
	echo "$said"
	[ $got = "$wanted" ] || {
		echo "ended with $got instead of $wanted"
		return 1
	}
}

# soon COMMAND...: it must succeed within 20 seconds.
soon() {
	for attempt in $(seq 40); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.5
	done
	"$@"
}

fails() {
	! "$@"
}

# The plan in force, by the beginning of its digest.
plan() {
	ipfilter --instance default status | grep --max-count=1 --only-matching 'plan [0-9a-f]\{12\}'
}

end() {
	[ $failed = 0 ] || exit 1
	exit 0
}

# Nothing that it is asked for here takes long.
systemctl() {
	timeout 60 systemctl "$@"
}

# The clients: on the second card, in a namespace of their own.
clients() {
	ip netns add clients
	ip link set eth1 netns clients
	ip netns exec clients sh -e <<'NAMESPACE'
ip link set lo up
ip link set eth1 up
for address in 192.0.2.3/24 198.51.100.10/32 203.0.113.10/32 198.18.0.10/32; do
	ip address add $address dev eth1
done
for address in 2001:db8:2::3/64 2001:db8:113::10/128; do
	ip address add $address dev eth1 nodad
done
ip route add 192.0.2.2 dev eth1 src 198.51.100.10
ip -6 route add 2001:db8:2::2 dev eth1 src 2001:db8:113::10
NAMESPACE
	# The second is the way back to the neighbour that was found.
	ip netns exec clients ping -c1 -W5 192.0.2.2 >/dev/null 2>&1
	ip netns exec clients ping -c1 -W5 2001:db8:2::2 >/dev/null 2>&1
}

# http SOURCE: the status that a client there gets from the API, 000 for none.
http() {
	ip netns exec clients curl --silent --output /dev/null --max-time 5 \
		--write-out '%{http_code}' --interface "$1" http://192.0.2.2:8080/
}

# asked SOURCE: the status that the authorization service answers a proxy about a client there.
asked() {
	curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' \
		--unix-socket /run/ipfilter-authorize/authorize.sock --header "X-Forwarded-For: $1" \
		--header 'X-Original-Method: GET' --header 'X-Original-URI: /pets' http://localhost/api
}

ALLOWED=198.51.100.10
DENIED=203.0.113.10
# Denied by allow-list.json, allowed by deny-list.json.
OTHER=198.18.0.10

# Two streams of datagrams to port 9090: IPv4 from an allowed source, IPv6 from a denied one. Nobody
# listens there, so those that come through are counted by the kernel as sent to no port, each
# family apart. `streams` starts them; `streamed` stops them and prints how many were sent and arrived.
streams() {
	before_4=$(stray UdpNoPorts)
	before_6=$(stray Udp6NoPorts)
	rm -f /run/stream-stop /run/stream-4 /run/stream-6
	ip netns exec clients bash /run/stream 192.0.2.2 /run/stream-4 &
	ip netns exec clients bash /run/stream 2001:db8:2::2 /run/stream-6 &
}

# stray NAME: a counter of the kernel's.
stray() {
	nstat -asz "$1" | awk -v name="$1" '$1 == name { print $2 }'
}

cat >/run/stream <<'STREAM'
mkfifo "$2.pause"
exec 4<>"$2.pause" 5>"/dev/udp/$1/9090"
sent=0
while [ ! -e /run/stream-stop ]; do
	# What is refused for an error that came back is not sent.
	printf x >&5 2>/dev/null && sent=$((sent + 1))
	read -t 0.02 -u 4
done
rm "$2.pause"
echo $sent >"$2"
STREAM

streamed() {
	touch /run/stream-stop
	wait
	sleep 0.5
	allowed=$(cat /run/stream-4)
	denied=$(cat /run/stream-6)
	came_4=$(($(stray UdpNoPorts) - before_4))
	came_6=$(($(stray Udp6NoPorts) - before_6))
	echo "stream: $came_4 of $allowed from the allowed source came, $came_6 of $denied from the denied one"
}
