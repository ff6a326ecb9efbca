#!/bin/sh
# Makes the users, members and robots of the Harbor at https://harbor.example.com.
# Written by "roadstead config import-harbor". Run it beside the server, once that has started:
#
#     sh accounts.sh --config roadstead.yaml
#
# Its arguments are given to each command. ROADSTEAD is how roadstead is called here, for example
# ROADSTEAD='docker compose exec -T roadstead /roadstead'. What is there already is left as it is, so
# this can be run again.
#
# Harbor gives nobody's password away, so new ones are made: each is in a file of its own in the folder
# SECRETS (harbor-secrets), which only you can read. Hand them out, and remove the folder.
set -uf
umask 077
ROADSTEAD=${ROADSTEAD:-roadstead}
SECRETS=${SECRETS:-harbor-secrets}
flags=$*
failed=0

call() { # shellcheck disable=SC2086
	$ROADSTEAD "$@" $flags </dev/null
}

fail() {
	echo "not done: $*" >&2
	failed=$((failed + 1))
}

# there LIST NAME: whether the first column of a list has a name.
there() { printf '%s\n' "$1" | awk -v name="$2" '$1 == name { found = 1 } END { exit !found }'; }

# keep FILE COMMAND…: runs a command and keeps the secret that it prints.
keep() {
	file=$SECRETS/$1
	shift
	if secret=$(call "$@"); then
		printf '%s\n' "$secret" >"$file" || fail "keep $file, whose secret is lost"
	else
		fail "$@"
	fi
}

# user NAME FLAG…
user() {
	if ! there "$users" "$1"; then keep "user-$1" user add "$@"; fi
}

# admin NAME: of somebody who signs in elsewhere.
admin() {
	if there "$users" "$1"; then call user admin "$1" || fail "user admin $1"; else absent "$1"; fi
}

# member PROJECT NAME FLAG…
member() {
	if there "$users" "$2"; then call project member add "$@" || fail "project member add $*"; else absent "$2"; fi
}

# group PROJECT NAME FLAG…
group() {
	call project member add "$@" --group || fail "project member add $* --group"
}

absent() {
	fail "$1 is no user yet: run this again after the first sign-in"
}

# robot FULL-NAME EXPIRES NAME FLAG…: EXPIRES is in seconds since 1970, 0 for never.
robot() {
	full=$1 expires=$2
	shift 2
	if there "$robots" "$full"; then return; fi
	if [ "$expires" -gt 0 ]; then
		left=$(((expires - $(date +%s) + 86399) / 86400))
		if [ "$left" -le 0 ]; then
			echo "$full has expired and is left out" >&2
			return
		fi
		set -- "$@" --days "$left"
	fi
	keep "robot-${full#robot?}" robot add "$@"
}

# disabled FULL-NAME: of a robot.
disabled() {
	if there "$(call robot list)" "$1"; then call robot disable "$1" || fail "robot disable $1"; fi
}

users=$(call user list) || exit 1
robots=$(call robot list) || exit 1
if ! there "$users" admin; then
	echo "there is no user admin: start the server once before this, which makes it" >&2
	exit 1
fi
mkdir -p "$SECRETS" || exit 1

# People.
user alice --email=alice@example.com
user bob --admin

users=$(call user list) || exit 1

# Who has which role in which project.
member docker.io alice --role guest
member library admin --role projectAdmin
member production admin --role projectAdmin
member production alice --role developer
member production bob --role limitedGuest

# Machines.
robot 'robot$nodes' 0 nodes --permission '*:repository/list,*:repository/pull,/:registry/list' --description='it'\''s for `nodes`'
robot 'robot$old' 1600000000 old --permission 'production:repository/pull'
robot 'robot$production+ci' 4102444800 ci --project production --permission 'artifact/delete,repository/pull,repository/push,scan/create'
robot 'robot$production+off' 0 off --project production --permission repository/pull
disabled 'robot$production+off'

if [ "$failed" -gt 0 ]; then
	echo "$failed commands have failed; run this again when their cause is gone" >&2
	exit 1
fi
