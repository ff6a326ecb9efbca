#!/usr/bin/env bash
# Makes a release of the commit that is checked out, in dist/. `make release` is this.
#
#     git tag -a v1.2.3 && make release       what the tag says
#     VERSION=1.2.3-rc.1 make release         a trial, of a commit without a tag
#     PLATFORMS=linux/amd64 make release      not for all four; without any, the chart and the changelog
#     make changelog                          a draft of what changed, to edit and tag with
#
# For each platform an archive and a list of what is in its binary (an SBOM in CycloneDX's JSON); for each
# Linux a Debian package; the Helm chart; CHANGELOG.md; and SHA256SUMS over all of them.
#
# The same commit gives the same bytes on any machine: the toolchain is that of go.mod, all files are those of
# the commit, all times its time, and their owner is root. Other versions of gzip, helm, nfpm and
# cyclonedx-gomod may write other bytes; .ci/tools has those that are meant.
#
# The changelog is the text of the annotated tag below its first line, and where it has none the subjects of
# the commits since the release before. So the repository has all that a release is made of:
#
#     make changelog >../changes.md           and edit it
#     git tag -a v1.2.3 --cleanup=whitespace -F ../changes.md
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC
# What somebody has set for their own builds is not to be in a release.
unset CDPATH GREP_OPTIONS GZIP TAR_OPTIONS
export GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0

PLATFORMS=${PLATFORMS-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}

# As git is without what somebody has set for their own eyes.
git() { command git -c log.showSignature=false -c column.ui=never -c versionsort.suffix=- "$@"; }

say() { printf 'release: %s\n' "$*"; }
die() {
	printf 'release: %s\n' "$@" >&2
	exit 1
}

# Semantic Versioning 2.0.0 without "+build", which a tag of an image cannot have: Helm and Debian understand
# this, and dpkg knows that 1.2.3-rc.1 comes before 1.2.3.
is_version() {
	local number='(0|[1-9][0-9]*)' word='(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)'
	[[ $1 =~ ^$number\.$number\.$number(-$word(\.$word)*)?$ ]]
}

# release_tags [git tag's options…]: the tags of releases, the highest version first.
release_tags() {
	local tag
	git tag --sort=-version:refname --list 'v*' "$@" | while read -r tag; do
		if is_version "${tag#v}"; then printf '%s\n' "$tag"; fi
	done
}

# Sets version, and tag where the commit has that of the version.
choose_version() {
	local tags
	tags=$(release_tags --points-at HEAD)
	if [ -z "${VERSION:-}" ]; then
		[ -n "$tags" ] || die "commit $short has no tag of a release (v1.2.3)." \
			"Tag it, \"git tag -a v1.2.3\", or say what to call it: VERSION=1.2.3-rc.1 make release"
		tag=${tags%%$'\n'*}
		version=${tag#v}
		return
	fi
	version=${VERSION#v}
	is_version "$version" || die "VERSION=$VERSION is not a version of Semantic Versioning without \"+\"; write 1.2.3 or 1.2.3-rc.1"
	tag=
	if grep -qxF "v$version" <<<"$tags"; then
		tag=v$version
	elif git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null; then
		die "v$version is the tag of another commit, $(git rev-parse --short "v$version^{commit}"), than this one, $short." \
			"Check that one out, \"git checkout v$version\", or choose another VERSION."
	fi
}

# The release before: the nearest tag among the ancestors. A release follows releases, and not its own trials.
# Nothing for the first.
previous() {
	local tag
	release_tags --merged HEAD | while read -r tag; do
		if [ "$(git rev-parse "$tag^{commit}")" != "$commit" ] && { [[ $version == *-* ]] || [[ $tag != *-* ]]; }; then
			printf '%s %s\n' "$(git rev-list --count "$tag..HEAD")" "$tag"
		fi
	done | sort -n -s -k 1,1 | sed -n '1s/^[0-9]* //p'
}

# What the commits say, one line for each that is no merge.
subjects() {
	local since
	since=$(previous)
	git log --no-merges --format='- %s' ${since:+"$since..HEAD"}
}

changelog() {
	local text=
	printf '# Roadstead %s, %s\n\n' "$version" "${date%T*}"
	if [ -n "$tag" ] && [ "$(git cat-file -t "$tag")" = tag ]; then
		text=$(git tag --list --format='%(contents:body)' "$tag") # without a signature
	fi
	printf '%s\n' "${text:-$(subjects)}"
}

# need name how-to-get-it: notes a program that is not there.
missing=()
need() { type -P "$1" >/dev/null || missing+=("$1 is not here: $2"); }

# need_program name: one of those that .ci/tools installs at a fixed version.
need_program() {
	local package
	package=$(sed -n "s/^[[:space:]]*'$1 *\(.*\)'$/\1/p" .ci/tools)
	need "$1" "\"bash .ci/tools\" installs it among all that the tests need, \"GOBIN=\$PWD/.tools/bin go install $package\" it alone"
}

check_tools() {
	local debian='"apt-get install %s" on Debian'
	for name in git gzip jq; do
		# shellcheck disable=SC2059
		need $name "$(printf "$debian" $name)"
	done
	need go 'see https://go.dev/doc/install'
	need sha256sum 'it is in GNU coreutils ("brew install coreutils" on a Mac)'
	[[ $(tar --version 2>/dev/null) == *'GNU tar'* ]] ||
		missing+=('tar is not GNU tar, which sorts and dates what it packs: "brew install gnu-tar" on a Mac, and its gnubin into PATH')
	need_program cyclonedx-gomod
	need_program helm
	if [[ $PLATFORMS == *linux/* ]]; then need_program nfpm; fi
	[ ${#missing[@]} -eq 0 ] || die "${missing[@]}"
}

# The platforms that people are told to expect something of.
check_platforms() {
	local platform
	for platform in $PLATFORMS; do
		case $platform in
		linux/amd64 | linux/arm64 | darwin/amd64 | darwin/arm64) ;;
		*) die "PLATFORMS has \"$platform\", which no release is made for; write some of: linux/amd64 linux/arm64 darwin/amd64 darwin/arm64" ;;
		esac
	done
}

# pack folder file: the folder in $work as a .tar.gz that is the same whoever makes it, and when.
pack() {
	chmod -R u=rwX,go=rX "$work/$1"
	tar -c --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" "$1" |
		gzip -n >"$2"
}

# A clone has the files of the commit and no others, and nobody changes it meanwhile.
clone() {
	source=$work/source
	git clone --quiet --shared --no-tags --no-checkout -c core.autocrlf=false . "$source"
	git -C "$source" -c advice.detachedHead=false checkout --quiet "$commit"
}

# binary os arch: builds it, and leaves its path in $binary and its SBOM among what is made. What Go notes by
# itself differs with the tags of a clone, and in a worktree it notes nothing; so the linker is told all.
binary() {
	binary=$work/binaries/${1}_$2/roadstead
	GOOS=$1 GOARCH=$2 go build -C "$source" -trimpath -buildvcs=false -o "$binary" \
		-ldflags "-s -w -X main.release=$version -X main.commit=$commit -X main.date=$date" ./cmd/roadstead
	# The tool would say when it ran, and describe the copy of itself that did.
	cyclonedx-gomod bin -json -std -noserial -notimestamp -version "v$version" "$binary" 2>"$work/sbom.log" |
		jq --arg date "$date" '.metadata.timestamp = $date | del(.metadata.tools[].hashes)' >"$out/roadstead_${version}_$1_$2.cdx.json" || {
		cat "$work/sbom.log" >&2
		die "no SBOM of $1/$2"
	}
}

# archive os arch: what people install from by hand, with the examples that deploy has for them.
archive() {
	local name=roadstead_${version}_$1_$2
	mkdir "$work/$name"
	cp -R "$source/README.md" "$source/LICENSE" "$source/docker-compose.yml" "$source/deploy" "$out/CHANGELOG.md" "$work/$name"
	# Those build, from sources that are not in it.
	rm -r "$work/$name/deploy/"{Dockerfile,release.sh,nfpm.yaml,debian}
	install -m 755 "$binary" "$work/$name/roadstead"
	pack "$name" "$out/$name.tar.gz"
}

# debian arch
debian() {
	(cd "$source" && VERSION=$version ARCH=$1 BINARY=$binary nfpm package --config deploy/nfpm.yaml --packager deb \
		--target "$out/roadstead_${version}_$1.deb" >"$work/nfpm.log") || {
		cat "$work/nfpm.log" >&2
		die "no Debian package for $1"
	}
}

# Helm packs with the times of the files, and which version of Helm does so matters. So it is unpacked again.
chart() {
	mkdir "$work/chart"
	helm package "$source/deploy/helm/roadstead" --version "$version" --app-version "$version" --destination "$work/chart" >/dev/null
	tar -xzf "$work/chart/roadstead-$version.tgz" -C "$work"
	pack roadstead "$out/roadstead-$version.tgz"
}

type -P git >/dev/null || die 'git is not here: "apt-get install git" on Debian'
commit=$(git rev-parse --verify HEAD) || die "$PWD is not a git repository with a commit: a release is of one"
[ "$(git rev-parse --is-shallow-repository)" = false ] || die 'this clone does not have all of the history, which the changelog is made from: "git fetch --unshallow --tags"'
short=$(git rev-parse --short HEAD)
SOURCE_DATE_EPOCH=$(git show --no-patch --format=%ct HEAD)
export SOURCE_DATE_EPOCH
date=$(git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD)

case ${1:-} in
'') ;;
changelog)
	version=${VERSION:-}
	printf 'Roadstead %s\n\n' "${version:-of the next version}"
	subjects
	exit
	;;
*) die "unexpected argument \"$1\": there is \"changelog\", or nothing" ;;
esac

changes=$(git status --porcelain --untracked-files=normal)
[ -z "$changes" ] || die "the tree has changes, and a release is of a commit. Commit them, or put them away with \"git stash --include-untracked\":" "$changes"
choose_version
check_platforms
check_tools
GOTOOLCHAIN=$(awk '$1 == "go" { go = "go" $2 } $1 == "toolchain" { chosen = $2 } END { print chosen ? chosen : go }' go.mod)
export GOTOOLCHAIN

if [ -n "$tag" ]; then
	say "$version is commit $short, tag $tag"
else
	say "commit $short has no tag v$version: it is called $version because VERSION says so, and is not to be published"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/dist
mkdir "$out"
clone
changelog >"$out/CHANGELOG.md"
chart
for platform in $PLATFORMS; do
	os=${platform%/*} arch=${platform#*/}
	say "building $platform"
	binary "$os" "$arch"
	archive "$os" "$arch"
	if [ "$os" = linux ]; then debian "$arch"; fi
done
(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" . && sha256sum --check --quiet SHA256SUMS)

rm -rf dist
mv "$out" dist
say "made in dist/, $(du -sh dist | cut -f 1) in total:"
(cd dist && du -h --apparent-size -- *)
say 'check what you have downloaded with: sha256sum --check --ignore-missing SHA256SUMS'
