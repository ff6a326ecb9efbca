#!/bin/sh
# Makes the secrets that the compose files name, one file each in the folder "secrets" beside this script,
# or in the one that is named. Those that are there stay as they are: run it as often as you like.
#
#     deploy/compose/secrets.sh
#
# Containers see each file as it is here, and their users are not you: so the files may be read by
# everybody, and the folder entered by nobody else.
set -eu
umask 022
dir=${1:-$(dirname "$0")/secrets}
mkdir -p "$dir"
chmod 700 "$dir"

# make name prefix bytes: a prefix satisfies rules such as "an upper-case letter and a digit".
make() {
	if [ -s "$dir/$1" ]; then
		echo "$dir/$1 is there"
		return
	fi
	random=$(od -An -N"$3" -tx1 /dev/urandom | tr -d ' \n')
	[ ${#random} -eq $(($3 * 2)) ] || { echo "there was not enough randomness in /dev/urandom" >&2; exit 1; }
	# The name is there when the secret is.
	printf '%s%s\n' "$2" "$random" >"$dir/$1.new"
	mv "$dir/$1.new" "$dir/$1"
	echo "$dir/$1 is made"
}

make admin_password Aa1 12    # what admin logs in with, for the first start
make database_password '' 32  # cluster.yml: roadstead's at PostgreSQL, for as long as its volume lives
make bucket_secret '' 32      # cluster.yml: roadstead's at MinIO
make cluster_secret '' 32     # cluster.yml: what the nodes know each other by
make grafana_password '' 12   # monitoring.yml: what admin logs in with at Grafana
