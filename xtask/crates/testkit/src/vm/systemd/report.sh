# Runs when the script of this boot has ended: says how, then switches off.
if [ "$EXIT_CODE" = exited ]; then
	code=$EXIT_STATUS
else
	code=126
	echo "the script was ended by $EXIT_STATUS"
fi
printf '\nvm-exit %s\n' "$code"
# Returns when everything has left the port.
stty -F /dev/ttyS1 cs8
# Not `systemctl poweroff`, which looks for a message bus that is not there.
systemctl start --no-block --job-mode=replace-irreversibly poweroff.target
