package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// maxTokens limits a token file, in bytes.
	maxTokens = 64 << 10
	// minToken is the minimum length of a token: 16 hexadecimal digits are 64 bits, which cannot be guessed over a network.
	minToken = 16
	// othersWrite and othersRead are file permissions that would let other users add tokens, and read them.
	othersWrite, othersRead = 0o022, 0o004
)

// token is the bearer token of one operator.
type token struct {
	// name is the operator's name; empty if the file has none.
	name, secret string
}

// readTokens reads a token file: one token per line, optionally after the operator's name and a blank. Empty lines and lines
// that begin with # are skipped. exposed reports whether every user of this machine can read the file.
func readTokens(path string) (tokens []token, exposed bool, err error) {
	f, err := durable.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Mode().Perm()&othersWrite != 0 {
		return nil, false, fmt.Errorf("%s: users other than its owner can write to it (mode %04o) and become operators: chmod go-w it", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxTokens+1))
	if err != nil {
		return nil, false, err
	}
	if len(raw) > maxTokens {
		return nil, false, fmt.Errorf("%s: larger than %d bytes", path, maxTokens)
	}
	if tokens, err = parseTokens(string(raw)); err != nil {
		return nil, false, fmt.Errorf("%s%w", path, err)
	}
	return tokens, info.Mode().Perm()&othersRead != 0, nil
}

// parseTokens parses the text of a token file. Its errors do not quote the line, which holds a secret.
func parseTokens(text string) ([]token, error) {
	text = strings.TrimPrefix(text, "\ufeff") // some editors write a byte order mark
	if strings.ContainsRune(text, 0) {
		return nil, errors.New(": it is not UTF-8 text (perhaps UTF-16): save it as UTF-8")
	}
	var tokens []token
	n := 0
	for line := range strings.Lines(text) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		t := token{secret: fields[len(fields)-1]}
		if len(fields) == 2 {
			t.name = fields[0]
		}
		switch {
		case slices.ContainsFunc(fields, func(s string) bool { return s[0] == '#' }):
			return nil, fmt.Errorf(", line %d: a comment must be on a separate line", n)
		case len(fields) > 2:
			return nil, fmt.Errorf(", line %d: want a token, or a name and a token", n)
		case strings.ContainsFunc(t.secret, notOfToken):
			return nil, fmt.Errorf(", line %d: a token may have only letters, digits and -._~+/=", n)
		case len(t.secret) < minToken:
			return nil, fmt.Errorf(", line %d: the token has fewer than %d characters and could be guessed: create one with \"openssl rand -hex 24\"", n, minToken)
		case slices.ContainsFunc(tokens, func(o token) bool { return o.secret == t.secret && o.name != t.name }):
			return nil, fmt.Errorf(", line %d: another operator has the same token", n)
		}
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return nil, errors.New(": no token in the file")
	}
	return tokens, nil
}

// notOfToken reports whether a bearer token may not contain the character.
func notOfToken(r rune) bool {
	return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-._~+/=", r))
}

// match finds the operator with the given token. It compares digests and always checks every token, so that timing reveals
// neither the position nor the length of a token.
func match(tokens []token, given string) (token, bool) {
	want, found := sha256.Sum256([]byte(given)), -1
	for i, t := range tokens {
		have := sha256.Sum256([]byte(t.secret))
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(have[:], want[:]), i, found)
	}
	if found < 0 {
		return token{}, false
	}
	return tokens[found], true
}

// Token returns client credentials with the operator's token from a file. The file has one line in the format of the server's
// file. It is read at every call, so that a long-running command picks up a new token. A call to another machine without TLS
// fails, so the token is never sent unencrypted.
func Token(file string) credentials.PerRPCCredentials { return fileToken{file} }

type fileToken struct{ file string }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t fileToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if err := private(ctx); err != nil {
		return nil, err
	}
	tokens, _, err := readTokens(t.file)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	if len(tokens) > 1 {
		return nil, fmt.Errorf("token: %s has %d tokens: want only your own", t.file, len(tokens))
	}
	return map[string]string{"authorization": "Bearer " + tokens[0].secret}, nil
}

// private returns an error if the connection leaves this machine unencrypted.
func private(ctx context.Context) error {
	info, _ := credentials.RequestInfoFromContext(ctx)
	if plain, ok := info.AuthInfo.(plaintextInfo); ok && plain.local {
		return nil
	}
	if err := credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity); err != nil {
		return errors.New("a token is never sent to another machine without TLS: secure the connection with --tls-ca")
	}
	return nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. It returns false because private applies a finer rule.
func (fileToken) RequireTransportSecurity() bool { return false }

// plaintext are credentials without TLS that record whether a connection leaves the machine. Tokens are sent only over
// connections that do not.
type plaintext struct {
	credentials.TransportCredentials
}

func newPlaintext() credentials.TransportCredentials { return plaintext{insecure.NewCredentials()} }

// ClientHandshake implements credentials.TransportCredentials.
func (p plaintext) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := p.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, err
	}
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}
	return c, plaintextInfo{level, info.AuthType(), onThisMachine(conn.RemoteAddr())}, nil
}

// Clone implements credentials.TransportCredentials.
func (p plaintext) Clone() credentials.TransportCredentials {
	return plaintext{p.TransportCredentials.Clone()}
}

// plaintextInfo describes the connection of a call.
type plaintextInfo struct {
	credentials.CommonAuthInfo

	kind  string
	local bool
}

// AuthType implements credentials.AuthInfo.
func (p plaintextInfo) AuthType() string { return p.kind }
