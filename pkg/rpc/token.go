package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
)

// maxTokens bounds a file of tokens, in bytes.
const maxTokens = 64 << 10

// token is the bearer token of one operator.
type token struct {
	// name is the operator's; empty where the file names none.
	name, secret string
}

// readTokens reads a file of tokens: one a line, after the operator's name and a blank if there are several. Empty lines and
// lines that begin with # are passed over.
func readTokens(path string) ([]token, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokens+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxTokens {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxTokens)
	}
	var tokens []token
	n := 0
	for line := range strings.Lines(string(raw)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		switch fields := strings.Fields(line); len(fields) {
		case 1:
			tokens = append(tokens, token{secret: fields[0]})
		case 2:
			tokens = append(tokens, token{name: fields[0], secret: fields[1]})
		default:
			return nil, fmt.Errorf("%s, line %d: want a token, or a name and a token", path, n) // without the line: it holds a secret
		}
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s: no token in it", path)
	}
	return tokens, nil
}

// match finds whose token was given. It looks at every token, and at digests of them, so that neither the place of the right
// one nor the length of a wrong one shows in the time.
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

// Token returns the operator's token in a file, for a client. The file has one token, as a line of the server's file. It is
// read at every call, so that a new one needs no restart of a command that runs for long. It is never sent in the clear to
// another machine: such a call fails.
func Token(file string) credentials.PerRPCCredentials { return fileToken{file} }

type fileToken struct{ file string }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t fileToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if err := private(ctx); err != nil {
		return nil, err
	}
	tokens, err := readTokens(t.file)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	if len(tokens) > 1 {
		return nil, fmt.Errorf("token: %s has %d tokens: want one's own", t.file, len(tokens))
	}
	return map[string]string{"authorization": "Bearer " + tokens[0].secret}, nil
}

// private fails when others could read what is sent.
func private(ctx context.Context) error {
	info, _ := credentials.RequestInfoFromContext(ctx)
	if plain, ok := info.AuthInfo.(plaintextInfo); ok && plain.local {
		return nil
	}
	if err := credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity); err != nil {
		return errors.New("the token is not sent without TLS to another machine: secure the connection with --tls-ca")
	}
	return nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. The rule is finer than gRPC's: see private.
func (fileToken) RequireTransportSecurity() bool { return false }
