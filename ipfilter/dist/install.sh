#!/bin/sh
# Installs ipfilter on this host from the folder that this script is in, or removes it again.
#
#   ./install.sh            install or upgrade; configuration that is there stays
#   ./install.sh --remove   detach all filters and remove the files; configuration and state stay
#
# DESTDIR=/folder installs below a folder instead: nothing is started, stopped or added then.
set -eu

ARCHITECTURE=@ARCHITECTURE@
LIST=usr/share/doc/ipfilter/installed-files
root=${DESTDIR:-}
units='ipfilter.service ipfilter-authorize.service'

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

has_systemd() {
	[ -z "$root" ] && [ -d /run/systemd/system ]
}

check_host() {
	[ -n "$root" ] && return
	[ "$(id -u)" = 0 ] || fail "it needs root: run it as root or with sudo"
	[ "$(uname -m)" = "$ARCHITECTURE" ] ||
		fail "these programs are for $ARCHITECTURE, and this host is $(uname -m): take the archive for $(uname -m)"
	release=$(uname -r)
	major=${release%%.*}
	minor=${release#*.}
	minor=${minor%%[!0-9]*}
	if [ "$major" -lt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -lt 10 ]; }; then
		fail "this host runs Linux $release, and ipfilter needs 5.10 or later: boot a newer kernel"
	fi
}

# Copies to a name beside the target first: a program that runs is replaced, never overwritten.
place() {
	folder=$root/$(dirname "$1")
	{ mkdir -p "$folder" && cp "$1" "$root/$1.new" && mv -f "$root/$1.new" "$root/$1"; } 2>/dev/null ||
		fail "can't write to $folder: is the file system read-only?"
}

install_files() {
	files=$(find etc usr -type f | sort)
	for file in $files; do
		case $file in
		etc/*)
			if [ -e "$root/$file" ]; then
				cmp -s "$file" "$root/$file" || { cp "$file" "$root/$file.dist" && echo "kept /$file; the new one is beside it as $file.dist"; }
				continue
			fi
			;;
		esac
		place "$file"
	done
	echo "$files" | grep -v '^etc/' >"$root/$LIST"
	"$root/usr/bin/ipfilter" --version >/dev/null 2>&1 ||
		fail "/usr/bin/ipfilter does not start: is /usr mounted with noexec?"
}

add_user() {
	[ -z "$root" ] || return 0
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers ipfilter.conf
	elif grep -q '^ipfilter-authorize:' /etc/passwd; then
		:
	elif command -v useradd >/dev/null; then
		useradd --system --user-group --no-create-home --home-dir / --shell /sbin/nologin ipfilter-authorize
	else
		adduser -S -D -H -h / -s /sbin/nologin ipfilter-authorize
	fi
}

install() {
	check_host
	install_files
	add_user
	if has_systemd; then
		systemctl daemon-reload
		# Only what runs. The filter stays attached meanwhile.
		systemctl try-restart $units 'ipfilter@*.service' 'ipfilter-authorize@*.service'
	fi
	echo "installed $("$root/usr/bin/ipfilter" --version); nothing is filtered until you configure /etc/ipfilter/ipfilter.json and start it"
}

remove() {
	[ -e "$root/$LIST" ] || fail "it is not installed by this script: $root/$LIST does not exist"
	if [ -z "$root" ]; then
		[ "$(id -u)" = 0 ] || fail "it needs root: run it as root or with sudo"
		if has_systemd; then
			systemctl disable --now ipfilter-verify.timer $units >/dev/null 2>&1 || :
			systemctl stop 'ipfilter@*.service' 'ipfilter-authorize@*.service' || :
		fi
		# Without the program nobody could detach them.
		for pins in /sys/fs/bpf/ipfilter/*/; do
			[ -d "$pins" ] || continue
			name=$(basename "$pins")
			case $name in
			*@*) fail "instance ${name%@*} is attached in another network namespace: run 'ipfilter --instance ${name%@*} detach' there, or remove $pins if the namespace is gone" ;;
			esac
			/usr/bin/ipfilter --instance "$name" detach ||
				fail "a filter is still attached, so nothing was removed"
		done
	fi
	(cd "$root/" && xargs rm -f <"$LIST" && rm -f "$LIST")
	find "$root/usr/share/doc/ipfilter" -depth -type d -exec rmdir {} \;
	if has_systemd; then
		systemctl daemon-reload
	fi
	echo "removed; /etc/ipfilter and /var/lib/ipfilter stay"
}

cd "$(dirname "$0")"
case ${1:-} in
'') install ;;
--remove) remove ;;
*) fail "usage: install.sh [--remove]" ;;
esac
