package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What one reader takes for a body and another for a request is how a proxy in front is
// deceived. However a request is framed, the one hidden in it is never answered, and where
// the framing is in doubt the connection ends (FAULTS D1).
func TestSmuggling(t *testing.T) {
	const hidden = "GET /v2/a/b/manifests/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	get := func(header, body string) string {
		return "GET /v2/a/b/manifests/honest HTTP/1.1\r\nHost: x\r\n" + header + "\r\n" + body
	}
	tests := []struct {
		name, raw string
		statuses  []int
	}{
		{name: "Content-Length and Transfer-Encoding", raw: get("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", chunks), statuses: []int{404}},
		{name: "Transfer-Encoding and Content-Length", raw: get("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n"+hidden), statuses: []int{404}},
		{name: "chunked body alone", raw: get("Transfer-Encoding: chunked\r\n", chunks), statuses: []int{404}},
		{name: "two lengths", raw: get(fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n", len(hidden)), hidden), statuses: []int{400}},
		{name: "the same length twice", raw: get(fmt.Sprintf("Content-Length: %d\r\nContent-Length: %[1]d\r\n", len(hidden)), hidden), statuses: []int{404}},
		{name: "list of lengths", raw: get(fmt.Sprintf("Content-Length: 0, %d\r\n", len(hidden)), hidden), statuses: []int{400}},
		{name: "length with a sign", raw: get(fmt.Sprintf("Content-Length: +%d\r\n", len(hidden)), hidden), statuses: []int{400}},
		{name: "length in hexadecimal", raw: get("Content-Length: 0x0\r\n", hidden), statuses: []int{400}},
		{name: "space before the colon", raw: get(fmt.Sprintf("Content-Length : %d\r\n", len(hidden)), hidden), statuses: []int{400}},
		{name: "unknown encoding", raw: get("Transfer-Encoding: xchunked\r\n", hidden), statuses: []int{501}},
		{name: "two encodings", raw: get("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", hidden), statuses: []int{501}},
		{name: "bare LF after the size of a chunk", raw: get("Transfer-Encoding: chunked\r\n", strings.Replace(chunks, "\r\n", "\n", 1)), statuses: []int{404}},
		{name: "bare LF in a chunk extension", raw: get("Transfer-Encoding: chunked\r\n", "0;a=\n"+hidden+"\r\n\r\n"), statuses: []int{404}},
		{name: "bare CR in a header", raw: get("X: a\rContent-Length: 0\r\n", ""), statuses: []int{400}},
		{name: "folded header", raw: get(fmt.Sprintf("X: a\r\n Content-Length: %d\r\n", len(hidden)), ""), statuses: []int{404}},
		{name: "no host", raw: "GET /v2/a/b/manifests/honest HTTP/1.1\r\n\r\n", statuses: []int{400}},
		{name: "two hosts", raw: get("Host: y\r\n", ""), statuses: []int{400}},
		{name: "body of a GET", raw: get(fmt.Sprintf("Content-Length: %d\r\n", len(hidden)), hidden), statuses: []int{404}},
		{name: "body and then a request", raw: get("Content-Length: 5\r\n", "hello") + get("", ""), statuses: []int{404, 404}},
		{name: "large body of a push", raw: "PUT /v2/a/b/manifests/honest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + hidden, statuses: []int{403}},
		{name: "expected body of a push", raw: "PUT /v2/a/b/manifests/honest HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n" + hidden, statuses: []int{403}},
	}
	shelf := newShelf()
	s := New(Config{Registry: shelf, HeaderTimeout: 500 * time.Millisecond, IdleTimeout: 200 * time.Millisecond})
	run := start(t, s)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shelf.questions()
			nc, err := net.Dial("tcp", run.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(nc, test.raw)
			var statuses []int
			r := bufio.NewReader(nc)
			for {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					break // the end of the connection
				}
				io.Copy(io.Discard, resp.Body)
				statuses = append(statuses, resp.StatusCode)
			}
			if !slices.Equal(statuses, test.statuses) {
				t.Errorf("answered %v, want %v", statuses, test.statuses)
			}
			for _, q := range shelf.questions() {
				if strings.Contains(q, "smuggled") {
					t.Errorf("the hidden request was answered: %s", q)
				}
			}
		})
	}
	if resp, _ := run.ask(t, "GET", "/v2/"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}
