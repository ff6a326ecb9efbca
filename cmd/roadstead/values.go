package main

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"roadstead/registry"
)

// What follows reads one scalar each into its place. A faulty one leaves the place as it was,
// so that what depends on it is not reported as well.

func (v value) setText(s *string) {
	if text, ok := v.text(); ok {
		*s = text
	}
}

// setSecret is setText for what no message may quote.
func (v value) setSecret(s *Secret) {
	if text, ok := v.text(); ok {
		*s = Secret(text)
	}
}

func (v value) setBool(b *bool) {
	text, ok := v.text()
	switch {
	case !ok:
	case text == "true":
		*b = true
	case text == "false":
		*b = false
	default:
		v.fault(fmt.Sprintf("%q is neither true nor false", registry.Clip(text)), "write true or false")
	}
}

// oneOf reads one of a few words.
func (v value) oneOf(words ...string) (string, bool) {
	text, ok := v.text()
	if ok && !slices.Contains(words, text) {
		v.fault(fmt.Sprintf("%q is no word for this", registry.Clip(text)), suggest(text, words))
		return "", false
	}
	return text, ok
}

// setCount reads a number of things.
func (v value) setCount(n *int) {
	text, ok := v.text()
	if !ok {
		return
	}
	got, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		v.fault(fmt.Sprintf("%q is not a number of things", registry.Clip(text)), "write a whole number, such as 10")
		return
	}
	*n = int(got)
}

func (v value) setDuration(d *time.Duration) {
	text, ok := v.text()
	if !ok {
		return
	}
	got, ok := parseDuration(text)
	if _, err := strconv.ParseFloat(text, 64); !ok && err == nil {
		v.fault(fmt.Sprintf("%s has no unit", registry.Clip(text)), fmt.Sprintf("write %ss, %sm or %sh", registry.Clip(text), registry.Clip(text), registry.Clip(text)))
		return
	}
	if !ok || got < 0 {
		v.fault(fmt.Sprintf("%q is not a duration", registry.Clip(text)), "write a number and a unit, such as 30s, 5m, 2h or 7d")
		return
	}
	*d = got
}

// parseDuration is time.ParseDuration with days, which is what retention is counted in.
func parseDuration(s string) (time.Duration, bool) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		d, err := time.ParseDuration(s)
		return d, err == nil
	}
	const longest = int64(math.MaxInt64 / (24 * time.Hour))
	n, err := strconv.ParseInt(days, 10, 64)
	if err != nil || n < 0 || n >= longest {
		return 0, false
	}
	d := time.Duration(0)
	if rest != "" {
		if d, err = time.ParseDuration(rest); err != nil || d < 0 || d > 24*time.Hour {
			return 0, false
		}
	}
	return time.Duration(n)*24*time.Hour + d, true
}

func (v value) setSize(n *int64) {
	if text, ok := v.text(); ok {
		v.takeSize(text, n)
	}
}

func (v value) takeSize(text string, n *int64) {
	got, instead := parseSize(text)
	if instead != "" {
		v.fault(fmt.Sprintf("%q is not a size", registry.Clip(text)), instead)
		return
	}
	*n = got
}

// units of a size in bytes. The bare letters are not among them: half of all people read
// "G" as 1000³ and the other half as 1024³.
var units = map[string]int64{
	"B":  1,
	"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
}

// parseSize returns a number of bytes, or what to write instead.
func parseSize(s string) (n int64, instead string) {
	digits := strings.TrimRight(s, "KMGTPkiBb ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, "write a whole number and a unit, such as 64MiB or 100GiB"
	}
	if unit == "" {
		if n == 0 {
			return 0, ""
		}
		return 0, fmt.Sprintf("write %sMiB or %sGiB", digits, digits)
	}
	factor, known := units[unit]
	if !known {
		if letter := strings.ToUpper(unit[:1]); strings.Contains("KMGTP", letter) {
			return 0, fmt.Sprintf("write %s%siB (powers of 1024) or %s%sB (powers of 1000)", digits, letter, digits, letter)
		}
		return 0, "write a whole number and a unit, such as 64MiB or 100GiB"
	}
	if n > math.MaxInt64/factor {
		return 0, "write less than 8192PiB"
	}
	return n * factor, ""
}

// setCatalog reads the URL of a database. No message quotes it: whoever forgets to escape a password
// has it anywhere.
func (v value) setCatalog(s *string) {
	text, ok := v.text()
	if !ok {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || u.Fragment != "" ||
		u.Host == "" && u.Query().Get("host") == "" || strings.Trim(u.Path, "/") == "" || strings.Contains(u.Path+u.RawQuery, "@") {
		v.fault("it is not the URL of a database", "write postgres://USER@HOST:5432/DATABASE, with what is special in it escaped as in %2F, or remove the line for a file in the directory")
		return
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		v.fault("the URL holds a password", "write it into a file and name that as catalog_password_file beside it, or set "+catalogPassword)
		return
	}
	*s = text
}

// setMaxSize reads "100GiB" or "80%".
func (v value) setMaxSize(s *Storage) {
	if percent := v.setShare(&s.MaxSize, &s.MaxShare, 100); !percent && s.MaxSize == 0 && !v.doc.faulty[v.path] {
		v.fault("nothing fits into no bytes", "write a size, or remove the line for no limit")
	}
}

// setShare reads a size, or a share of the filesystem in percent, of which it reports that it is one.
func (v value) setShare(size *int64, share *int, most int) (percent bool) {
	text, ok := v.text()
	if !ok {
		return false
	}
	number, percent := strings.CutSuffix(text, "%")
	if !percent {
		v.takeSize(text, size)
		return false
	}
	got, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || got < 1 || got > most {
		v.fault(fmt.Sprintf("%q is not a share of the filesystem", registry.Clip(text)), fmt.Sprintf("write 1%% to %d%%", most))
		return true
	}
	*size, *share = 0, got
	return true
}

// setAddress reads what to listen on.
func (v value) setAddress(s *string) {
	text, ok := v.text()
	if !ok {
		return
	}
	if instead := badAddress(text); instead != "" {
		v.fault(fmt.Sprintf("%q is not an address to listen on", registry.Clip(text)), instead)
		return
	}
	*s = text
}

// badAddress returns what to write instead of an address, "" when it is a good one.
func badAddress(s string) string {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, err := strconv.ParseUint(s, 10, 16); err == nil {
			return fmt.Sprintf(`write ":%s"`, s)
		}
		if s != "" && !strings.ContainsAny(s, ":/ ") {
			return fmt.Sprintf("add a port, %q", registry.Clip(s)+":5000")
		}
		return `write host:port, such as ":5000", "127.0.0.1:5000" or "[::1]:5000"`
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "write a port from 1 to 65535 after the colon, or 0 for any free one"
	} else if n != 0 && port[0] == '0' {
		return fmt.Sprintf("write the port as %d", n)
	}
	return ""
}

// sameAddress reports whether two addresses cannot be listened on at once.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || everywhere(hostA) || everywhere(hostB)
}

func everywhere(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// host matches "name" and "name:port" as they stand in an image's name or a Host header.
var host = regexp.MustCompile(`^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?)(:[0-9]{1,5})?$`)

// hostText reads a host name with an optional port, in lower case.
func (v value) hostText() (string, bool) {
	text, ok := v.text()
	if !ok {
		return "", false
	}
	if rest, found := cutScheme(text); found {
		v.fault(fmt.Sprintf("%q is a URL", registry.Clip(text)), fmt.Sprintf("write only the host, %q", registry.Clip(strings.TrimRight(rest, "/"))))
		return "", false
	}
	text = strings.ToLower(text)
	if !host.MatchString(text) {
		v.fault(fmt.Sprintf("%q is not a host", registry.Clip(text)), `write a name with an optional port, such as "quay.io" or "registry.example.com:5000"`)
		return "", false
	}
	return text, true
}

func cutScheme(s string) (rest string, found bool) {
	_, rest, found = strings.Cut(s, "://")
	return rest, found
}

// endpointURL reads "https://host[:port]". A registry may be below a path, and be given with
// or without the "/v2" that every one has.
func (v value) endpointURL() (string, bool) {
	text, ok := v.text()
	if !ok {
		return "", false
	}
	if _, found := cutScheme(text); !found {
		v.fault(fmt.Sprintf("%q has no scheme", registry.Clip(text)), fmt.Sprintf("write %q, or http:// for plain HTTP", registry.Clip("https://"+text)))
		return "", false
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		// The error of url.Parse quotes its input, which may hold a password.
		v.fault("it is not a URL", `write scheme and host, such as "https://quay.io"`)
		return "", false
	case u.User != nil:
		v.fault("the URL holds credentials", "write them as username and password_file beside endpoints")
		return "", false
	case u.Scheme != "https" && u.Scheme != "http":
		v.fault(fmt.Sprintf("%q is neither https nor http", registry.Clip(u.Scheme)), fmt.Sprintf("write %q", registry.Clip("https://"+u.Host)))
		return "", false
	case !host.MatchString(strings.ToLower(u.Host)):
		v.fault(fmt.Sprintf("%q is not a host", registry.Clip(u.Host)), `write scheme and host, such as "https://quay.io"`)
		return "", false
	case u.RawQuery != "" || u.Fragment != "":
		v.fault(fmt.Sprintf("%q has a query or a fragment", registry.Clip(text)), fmt.Sprintf("write %q", registry.Clip(u.Scheme+"://"+u.Host+u.Path)))
		return "", false
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/")+"/", "v2/")
	if base, repo, found := strings.Cut("/"+path, "/v2/"); found {
		v.fault(fmt.Sprintf("%q has a repository in it", registry.Clip(text)), fmt.Sprintf("write %q and prefix: %q", registry.Clip(u.Scheme+"://"+u.Host+base), registry.Clip(strings.Trim(repo, "/"))))
		return "", false
	}
	return strings.TrimRight(u.Scheme+"://"+strings.ToLower(u.Host)+"/"+path, "/"), true
}

// setOwnURL reads what clients call this server.
func (v value) setOwnURL(s *string) {
	text, ok := v.plainURL()
	if !ok {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Path != "" {
		v.fault(fmt.Sprintf("%q has a path", registry.Clip(text)), fmt.Sprintf("write %q: the registry is at the root of its host", registry.Clip(u.Scheme+"://"+u.Host)))
		return
	}
	*s = text
}

// plainURL reads "https://host[:port]" and perhaps a path, without a slash at its end.
func (v value) plainURL() (string, bool) {
	text, ok := v.text()
	if !ok {
		return "", false
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !host.MatchString(strings.ToLower(u.Host)) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// It is not quoted: it may hold a password.
		v.fault("it is not the URL of a server", `write scheme and host, such as "https://mirror.example.com"`)
		return "", false
	}
	return u.Scheme + "://" + strings.ToLower(u.Host) + strings.TrimRight(u.Path, "/"), true
}

// setProxy reads the URL of an outbound proxy. It may hold a password and is never quoted.
func (v value) setProxy(s *Secret) {
	text, ok := v.text()
	if !ok || text == "" {
		return
	}
	if text == "direct" {
		*s = Secret(text)
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		v.fault("it is not the URL of a proxy", `write http://, https:// or socks5:// and host:port, or "direct" for none`)
		return
	}
	*s = Secret(text)
}

// setNetworks reads a list of networks, or of addresses, which are networks of one.
func (v value) setNetworks(networks *[]netip.Prefix) {
	*networks = nil
	for _, item := range v.list() {
		text, ok := item.text()
		if !ok {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			item.fault(fmt.Sprintf("%q is not a network", registry.Clip(text)), `write an address and how many bits of it count, such as "10.0.0.0/8"`)
			continue
		}
		*networks = append(*networks, network.Masked())
	}
}

// private says whether a URL's host is one that the address policy of upstreams refuses, as
// far as its text shows. What is in one of the networks it does not refuse.
func private(endpoint string, networks []netip.Prefix) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	name := u.Hostname()
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		name = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	if slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return false
	}
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

// glob matches what can be a pattern of allow, deny and pin: a repository below the project
// and an optional tag, in which '*' stands for anything within a component and '**' across.
// Whether it is one the cache decides.
var glob = regexp.MustCompile(`^[^/:A-Z\s][^:A-Z\s]*(:[^:/\s]+)?$`)

// setGlobs reads a list of patterns of a project.
func (v value) setGlobs(project string, globs *[]string) {
	patterns := []string{} // given and empty is not the same as not given
	for _, item := range v.list() {
		text, ok := item.text()
		if !ok {
			continue
		}
		switch rest, foreign := strings.CutPrefix(text, project+"/"); {
		case foreign:
			item.fault(fmt.Sprintf("%q begins with the project's name", registry.Clip(text)), fmt.Sprintf("write %q: patterns are below the project", registry.Clip(rest)))
		case strings.Contains(text, "@"):
			item.fault(fmt.Sprintf("%q has a digest", registry.Clip(text)), "write a repository, or a repository and a tag: digests follow from them")
		case !glob.MatchString(text) || strings.Contains(text, "//") || badPattern(text):
			item.fault(fmt.Sprintf("%q is not a pattern", registry.Clip(text)), `write repository or repository:tag in lower case with * within a component and ** across, such as "library/**" or "rancher/*:v1.*"`)
		default:
			patterns = append(patterns, text)
		}
	}
	*globs = patterns
}

func badPattern(text string) bool {
	_, err := registry.ParsePattern(text)
	return err != nil
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	unit, names := int64(1), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for ; i < len(names)-1 && n >= unit<<10; i++ {
		unit <<= 10
	}
	if n%unit == 0 {
		return fmt.Sprintf("%d %s", n/unit, names[i])
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), names[i])
}

// durationText writes a duration as the configuration would.
func durationText(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return cmp.Or(s, "0s")
}
