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
