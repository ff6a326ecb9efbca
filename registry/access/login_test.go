package access

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"roadstead/registry"
	"roadstead/storage/catalog"
	"roadstead/storage/catalogtest"
)

func isCode(err error, c registry.Code) bool { return errors.Is(err, c) }

func TestBasicAndTokenLeadToTheSame(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	_, token := h.ask(basic("dora", password), "repository:production/web:pull,push")
	for name, authorization := range map[string]string{"Basic": basic("dora", password), "Bearer": token, "bearer": strings.Replace(token, "Bearer", "bearer", 1)} {
		p := h.who(authorization)
		if p.Name() != "dora" {
			t.Errorf("%s: principal %q, want dora", name, p.Name())
		}
		if err := h.Authorize(p, registry.Push, registry.Resource{Kind: registry.Repository, Repo: web}); err != nil {
			t.Errorf("%s: push: %v", name, err)
		}
		if err := h.Login(p); err != nil {
			t.Errorf("%s: login: %v", name, err)
		}
	}
	for name, authorization := range map[string]string{
		"nothing": "", "an empty user": basic("", ""), "a wrong password": basic("dora", "Wrong-Horse-1"), "no password": basic("dora", ""),
		"a scheme that there is not": "Digest dora", "garbage": "Basic !!!", "a space": " ",
	} {
		p := h.who(authorization)
		if got := code(h.Login(p)); p.Name() != "" || got != registry.Unauthorized {
			t.Errorf("%s: principal %q, login %q, want nobody and Unauthorized", name, p.Name(), got)
		}
		if err := h.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: tool}); err != nil {
			t.Errorf("%s: pull what anybody may: %v", name, err)
		}
	}
	r := request("/v2/", basic("dora", password))
	r.Header.Add("Authorization", token)
	if p, err := h.Identify(r); err != nil || p.Name() != "" {
		t.Errorf("two Authorization headers make %q, %v, want nobody", p.Name(), err)
	}
	// Anybody's token is as good as none at what is private, and enough to see that there is a registry.
	_, anonymous := h.ask("", "repository:public/tool:pull")
	if err := h.Login(h.who(anonymous)); err != nil {
		t.Errorf("login with anybody's token: %v", err)
	}
}

// There is no password that anybody but the operator knows (FAULTS C1).
func TestC1_NoDefaultPassword(t *testing.T) {
	var announced []string
	h := open(t, func(c *Config) {
		c.AdminPassword = ""
		c.Announce = func(user, password string) { announced = append(announced, user, password) }
	})
	if len(announced) != 2 || announced[0] != "admin" {
		t.Fatalf("announced %q, want admin and a password, once", announced)
	}
	if err := checkPassword(announced[1]); err != nil || len(announced[1]) < 43 {
		t.Errorf("the password that was made up is %d characters: %v", len(announced[1]), err)
	}
	if err := h.Login(h.who(basic("admin", announced[1]))); err != nil {
		t.Errorf("the announced password: %v", err)
	}
	for _, guess := range []string{"Harbor12345", "admin", "password", "Password1", "123456", "12345678", "changeme", "Passw0rd", "root", "roadstead", ""} {
		if p := h.who(basic("admin", guess)); p.Name() != "" {
			t.Errorf("%q is the password of %s", guess, p.Name())
		}
	}
	if p := h.again().now.Load(); len(p.users) != 1 || len(announced) != 2 {
		t.Errorf("the second start makes %d users and announces %q", len(p.users), announced)
	}

	// Without a password and anybody to tell, nobody is made.
	if h := open(t, func(c *Config) { c.AdminPassword = "" }); len(h.now.Load().users) != 0 {
		t.Errorf("%d users without a password", len(h.now.Load().users))
	}
	for _, weak := range []string{"Harbor12345", "short1A", "nodigitsHere", "nouppercase1", "NOLOWERCASE1"} {
		db, err := catalogtest.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"))
		h.must(err)
		_, err = Open(t.Context(), Config{Catalog: db, Directory: t.TempDir(), AdminPassword: weak})
		if code(err) != Invalid || strings.Contains(err.Error(), weak) {
			t.Errorf("first start with the password %q: %v, want an error that does not tell it", weak, err)
		}
		db.Close()
	}
}

// Nobody learns from an answer who has an account: unknown users, wrong passwords, disabled users
// and users without a password take the same work and get the same answer (FAULTS C5).
func TestC5_NoEnumeration(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	h.member("gone", Developer)
	h.must(h.DisableUser(t.Context(), "test", "gone", true))
	h.must(h.change(t.Context(), deed{kind: Users, name: "olga"}, func(tx *catalog.Tx) error {
		_, err := tx.AddUser(catalog.User{Name: "olga", Issuer: "https://idp", Subject: "7"}, "")
		return err
	}))
	answers := map[string]string{}
	for _, name := range []string{"dora", "nobody", "gone", "olga", "robot$nobody", "robot$production+none"} {
		try := "Wrong-Horse-1"
		if name == "gone" {
			try = password
		}
		w, _ := h.ask(basic(name, try), "repository:production/web:pull")
		answers[name] = fmt.Sprint(w.Code, w.Header(), w.Body)
		if w.Code != 401 || answers[name] != answers["dora"] {
			t.Errorf("%s: %s\nwant %s", name, answers[name], answers["dora"])
		}
		if !strings.HasPrefix(name, "robot$") {
			stored := ""
			if name == "dora" {
				stored = h.now.Load().named[name].password
			}
			if _, known := h.proofs.look(h.proofs.key(name, stored, try)); !known {
				t.Errorf("%s: no hash was made", name)
			}
		}
	}
}

// Whoever another process has just made known is known here with the first login. That nobody runs this
// one shows who looks.
func TestAnotherProcessJustMadeIt(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	other := &house{Access: h.again(), t: t, dir: h.dir, db: h.db}
	const fresh = "Fresh-Horse-7"
	in := func(who string, login func() bool) {
		t.Helper()
		h.caught.Store(time.Now().Add(time.Hour).UnixNano())
		if login() {
			t.Errorf("%s is known to who may not look yet", who)
		}
		h.caught.Store(0)
		if !login() {
			t.Errorf("%s is refused", who)
		}
	}
	identified := func(name, secret string) func() bool {
		return func() bool { return h.who(basic(name, secret)).Name() == name }
	}
	secret := other.robot("production", "ci", "pull")
	in("a robot", identified("robot$production+ci", secret))
	other.member("emil", Guest)
	in("a user", identified("emil", password))
	other.must(other.SetPassword(t.Context(), "test", "dora", fresh))
	in("another password", identified("dora", fresh))
	other.member("fay", Guest)
	in("a user in a browser", func() bool {
		_, err := h.SignIn(t.Context(), "fay", password, "192.0.2.1:1")
		return err == nil
	})

	// A password that was wrong is right again.
	other.must(other.SetPassword(t.Context(), "test", "dora", password))
	in("the password of before", identified("dora", password))

	h.caught.Store(0)
	other.robot("production", "more", "pull")
	if p := h.who(basic("robot$production+more", "guessed")); p.Name() != "" || h.Login(p) == nil {
		t.Errorf("a guess is %q", p.Name())
	}
}

// Failures are limited for a user and for an address, by Basic and by the token service alike; who
// is right already, robots and what anybody may are not kept out by them (FAULTS C5).
func TestC5_LoginsAreLimited(t *testing.T) {
	h := open(t)
	h.member("dora", Developer)
	secret := h.robot("production", "ci", "pull")
	h.who(basic("dora", password)) // some node that pulls all the time
	h.member("eve", Developer)

	status := map[int]int{}
	for i := range 40 {
		for _, user := range []string{"dora", "eve"} {
			w, _ := h.ask(basic(user, fmt.Sprintf("Wrong-Horse-%d", i)), "repository:production/web:pull")
			status[w.Code]++
			if w.Code == 429 && w.Header().Get("Retry-After") == "" {
				t.Fatal("429 without Retry-After")
			}
			p := h.who(basic(user, fmt.Sprintf("Other-Horse-%d", i)))
			if err := h.Authorize(p, registry.Pull, registry.Resource{Kind: registry.Repository, Repo: tool}); err != nil {
				t.Fatalf("pull what anybody may: %v", err)
			}
		}
	}
	// Both ways draw on the same ten failures of each user.
	if status[401] < 8 || status[401] > 12 || status[401]+status[429] != 80 {
		t.Errorf("statuses %v, want about ten 401 and then 429", status)
	}
	if got := code(h.Login(h.who(basic("eve", password)))); got != registry.TooManyRequests {
		t.Errorf("the right password after ten wrong ones: %q, want TooManyRequests", got)
	}
	if err := h.Login(h.who(basic("dora", password))); err != nil {
		t.Errorf("a password that was right before: %v", err)
	}
	for i := range 100 {
		h.who(basic("robot$production+ci", fmt.Sprint("wrong", i)))
	}
	if err := h.Login(h.who(basic("robot$production+ci", secret))); err != nil {
		t.Errorf("the right secret of a robot after 100 wrong ones: %v", err)
	}
	// The address has none left for anybody.
	if got := code(h.Login(h.who(basic("nobody", "Wrong-Horse-1")))); got != registry.TooManyRequests {
		t.Errorf("another user from an address that guesses: %q, want TooManyRequests", got)
	}
	// The same wrong password over and over is no guessing: a node with a stale one.
	other := request("/v2/", basic("admin", "Stale-Horse-1"))
	other.RemoteAddr = "198.51.100.7:1"
	for range 100 {
		p, _ := h.Identify(other)
		if got := code(h.Login(p)); got != registry.Unauthorized {
			t.Fatalf("the same wrong password again: %q, want Unauthorized", got)
		}
	}
}

func TestLimits(t *testing.T) {
	l, now := newLimits(), time.Now()
	take := func(user, host string, want bool) {
		t.Helper()
		if err := l.take(user, host, now); (err == nil) != want {
			t.Errorf("%s from %s may fail: %v, want %v", user, host, err, want)
		}
	}
	for range int(perUserAndHost.burst) {
		take("dora", "a", true)
	}
	take("dora", "a", false)
	take("dora", "b", true) // she is not kept out by who guesses elsewhere
	take("eve", "a", true)
	l.give("dora", "a", now)
	take("dora", "a", true)
	now = now.Add(perUserAndHost.every - time.Millisecond)
	take("dora", "a", false)
	now = now.Add(2 * time.Millisecond)
	take("dora", "a", true)
	for i := range int(perUser.burst) {
		take("grace", fmt.Sprint("of many ", i), true)
	}
	take("grace", "one more", false)
	now = now.Add(-time.Hour) // a clock that was set back
	take("dora", "a", false)
	var fault *registry.Fault
	if err := l.take("dora", "a", now); !errors.As(err, &fault) || fault.RetryAfter <= 0 || fault.RetryAfter > perUserAndHost.every {
		t.Errorf("when to try again: %+v", fault)
	}
	for i := range int(perHost.burst) {
		take(fmt.Sprint("user", i), "c", true)
	}
	take("frank", "c", false)
	take("", "c", false)
	take("frank", "d", true)
	for remote, want := range map[string]string{
		"192.0.2.1:5000": "192.0.2.1", "[::ffff:192.0.2.1]:5000": "192.0.2.1",
		"[2001:db8:1:2:3::4]:9": "2001:db8:1:2::/64", "[fe80::1%eth0]:9": "fe80::/64", "@": "@", "": "",
	} {
		if got := hostOf(remote); got != want {
			t.Errorf("host of %q = %q, want %q", remote, got, want)
		}
	}
}

// What proves somebody is compared in a time that tells nothing: hashes of a fixed length
// (FAULTS C10).
func TestC10_SecretsAreComparedByHash(t *testing.T) {
	h := open(t)
	secret := h.robot("production", "ci", "pull")
	h.must(h.change(t.Context(), deed{kind: Users, name: "admin"}, func(tx *catalog.Tx) error { return tx.SetSecret("admin", sumOf("CLI-secret-1")) }))
	s := h.now.Load()
	for name, stored := range map[string][]byte{"robot": s.called["robot$production+ci"].secret, "user": s.named["admin"].secret} {
		if len(stored) != 32 || strings.Contains(string(stored), secret[:8]) {
			t.Errorf("%s: %d bytes are stored, want a SHA-256", name, len(stored))
		}
	}
	for try, want := range map[string]string{
		secret: "robot$production+ci", secret[:42]: "", secret + "A": "", "": "", strings.ToLower(secret): "",
	} {
		if got := h.who(basic("robot$production+ci", try)).Name(); got != want {
			t.Errorf("secret of %d characters: %q, want %q", len(try), got, want)
		}
	}
	for try, want := range map[string]string{"CLI-secret-1": "admin", password: "admin", "CLI-secret-2": ""} {
		if got := h.who(basic("admin", try)).Name(); got != want {
			t.Errorf("%q makes %q, want %q", try, got, want)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		s := newSecret()
		if seen[s] || len(s) != 43 || checkPassword(s) != nil {
			t.Fatalf("secret %q", s)
		}
		seen[s] = true
	}
	renewed, _, err := h.RenewRobot(t.Context(), "test", "robot$production+ci", End{})
	h.must(err)
	if h.who(basic("robot$production+ci", secret)).Name() != "" || h.who(basic("robot$production+ci", renewed)).Name() == "" {
		t.Error("after a renewal the old secret is good or the new one is not")
	}
}

// A password that was changed is void at once, however well it is remembered.
func TestChangedPassword(t *testing.T) {
	h := open(t)
	h.member("dora", "")
	before := basic("dora", password)
	if h.who(before).Name() != "dora" {
		t.Fatal("dora cannot log in")
	}
	h.must(h.SetPassword(t.Context(), "test", "dora", "Another-Horse-2"))
	if h.who(before).Name() != "" || h.who(basic("dora", "Another-Horse-2")).Name() != "dora" {
		t.Error("the old password is good or the new one is not")
	}
	h.must(h.SetPassword(t.Context(), "test", "dora", password))
	if h.who(before).Name() != "dora" {
		t.Error("a password that was wrong for a time is not good again")
	}
}

func TestPasswordHash(t *testing.T) {
	stored := hashPassword(password, usual)
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(stored, password) {
		t.Errorf("hash %q", stored)
	}
	if hashPassword(password, usual) == stored {
		t.Error("the same password has the same hash twice")
	}
	if !matches(stored, password, usual) || matches(stored, password+"x", usual) {
		t.Error("the hash does not tell right from wrong")
	}
	cheap := cost{64, 1, 1}
	for _, broken := range []string{"", "x", "$argon2id$v=19$m=64,t=1,p=1$$", "$argon2i$v=19$m=64,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=99999999,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=0,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA"} {
		if matches(broken, "", cheap) || matches(broken, password, cheap) {
			t.Errorf("%q matches", broken)
		}
	}
	// A hash that was made with other parameters is still good.
	if !matches(hashPassword(password, cheap), password, usual) {
		t.Error("a hash of other parameters does not match")
	}
}

// Many that ask the same at once cost one hash, and no more hashes are made at once than there are
// slots, nor waited for than there is room.
func TestProofsAreSharedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProofs()
		var running, most, made atomic.Int32
		work := func() bool {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(100 * time.Millisecond)
			running.Add(-1)
			made.Add(1)
			return true
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if ok, _, err := p.check(p.key("dora", "h", "x"), work); !ok || err != nil {
					t.Errorf("check: %v, %v", ok, err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 1 {
			t.Errorf("%d hashes for one question, want 1", made.Load())
		}
		var refused atomic.Int32
		for i := range 3 * maxWaiting {
			wg.Go(func() {
				if _, _, err := p.check(p.key(fmt.Sprint(i), "h", "x"), work); err != nil {
					if code(err) != registry.TooManyRequests {
						t.Errorf("check: %v", err)
					}
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if most.Load() != hashesAtOnce || made.Load() != 1+maxWaiting || refused.Load() != 2*maxWaiting {
			t.Errorf("%d hashes at once, %d made, %d refused; want %d, %d, %d", most.Load(), made.Load(), refused.Load(), hashesAtOnce, 1+maxWaiting, 2*maxWaiting)
		}
		// Nobody waits without end for those before him.
		slow := func() bool { time.Sleep(time.Minute); return true }
		start := time.Now()
		var waited time.Duration
		for i := range hashesAtOnce + 1 {
			wg.Go(func() {
				if _, _, err := p.check(p.key(fmt.Sprint("slow", i), "h", "x"), slow); err != nil {
					waited = time.Since(start)
				}
			})
		}
		wg.Wait()
		if waited != maxWait {
			t.Errorf("waited for %s, want %s", waited, maxWait)
		}
	})
}
