package postgrestest

import "encoding/binary"

// Statements is how many statements clients have had the server run since the last call.
func (p *Proxy) Statements() int { return int(p.statements.Swap(0)) }

// stream reads what a client sends: messages of PostgreSQL's protocol 3, of which the first ones have a
// length and no type.
type stream struct {
	begun bool   // what comes now has a type
	ahead []byte // of a message that has not come whole
	skip  int    // bytes of one whose kind is known
}

// What a client may send before it begins: may I speak TLS, or GSSAPI?
const (
	sslRequest = 80877103
	gssRequest = 80877104
)

// read returns how many statements begin to run in what comes next.
func (s *stream) read(b []byte) (statements int) {
	s.ahead = append(s.ahead, b...)
	for {
		n := min(s.skip, len(s.ahead))
		s.ahead, s.skip = s.ahead[n:], s.skip-n
		if s.skip > 0 {
			return statements
		}
		head := 5
		if !s.begun {
			head = 8
		}
		if len(s.ahead) < head {
			return statements
		}
		if !s.begun {
			code := binary.BigEndian.Uint32(s.ahead[4:])
			s.begun = code != sslRequest && code != gssRequest
			s.skip = int(binary.BigEndian.Uint32(s.ahead))
			continue
		}
		if kind := s.ahead[0]; kind == 'E' || kind == 'Q' { // Execute, or a simple query
			statements++
		}
		s.skip = 1 + int(binary.BigEndian.Uint32(s.ahead[1:]))
	}
}
