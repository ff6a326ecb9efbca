package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"roadstead/registry"
)

// helperTimeout is what is left for a credential helper of the time in which a client wants
// an answer. Those of the clouds make a request or two of their own.
const helperTimeout = 10 * time.Second

func checkHelper(name string) error {
	if strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
		return fmt.Errorf("credential helper %q is not the part of a program's name after docker-credential-", name)
	}
	if _, err := exec.LookPath("docker-credential-" + name); err != nil {
		return fmt.Errorf("credential helper: %w", err)
	}
	return nil
}

// helperKey is what Docker stores the credentials of a host under: the host itself, but for
// Docker Hub.
func helperKey(host string) string {
	switch host {
	case "registry-1.docker.io", "index.docker.io", "docker.io":
		return "https://index.docker.io/v1/"
	}
	return host
}

// askHelper speaks the protocol of Docker's credential helpers: "get" with the server on
// standard input, a JSON object or an error's text on standard output.
func askHelper(ctx context.Context, name, server string) (secret, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	var out, complaint bounded
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	// A child of the helper may hold its pipes open longer than the helper lives.
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		// By protocol what a failed helper prints is why, not a secret.
		return secret{}, fmt.Errorf("docker-credential-%s get %s: %w: %s %s", name, server, err, out.line(), complaint.line())
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.b.Bytes(), &answer); err != nil {
		// The parser's own error would show a piece of the secret.
		return secret{}, fmt.Errorf("docker-credential-%s get %s: the answer is not JSON", name, server)
	}
	if answer.Secret == "" {
		return secret{}, fmt.Errorf("docker-credential-%s get %s: the answer has no secret", name, server)
	}
	return secret{answer.Username, answer.Secret}, nil
}

// bounded keeps the start of what a program prints.
type bounded struct{ b bytes.Buffer }

var errTooMuch = errors.New("a program printed more than anybody wants to read")

func (w *bounded) Write(p []byte) (int, error) {
	const most = 256 << 10 // identity tokens are some kilobytes
	if w.b.Len()+len(p) > most {
		return 0, errTooMuch
	}
	return w.b.Write(p)
}

// line is the first line, quoted so that it stays one in a log.
func (w *bounded) line() string {
	line, _, _ := strings.Cut(strings.TrimSpace(w.b.String()), "\n")
	return fmt.Sprintf("%q", registry.Clip(line))
}
