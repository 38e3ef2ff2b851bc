package rpc

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const good = "0123456789abcdef"

func TestTokenFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string // a part of the error
	}{
		"one":                         {good, 0o600, ""},
		"a name":                      {"alice " + good + "\n", 0o600, ""},
		"comments and empty lines":    {"# operators\n\n  # of the desk\n" + good + "\n", 0o600, ""},
		"lines of Windows":            {"alice " + good + "\r\nbob x" + good + "\r\n", 0o600, ""},
		"a byte order mark":           {"\ufeff" + good + "\n", 0o600, ""},
		"as a secret of Kubernetes":   {good, 0o440, ""},
		"everybody may read it":       {good, 0o644, ""},
		"a comment behind the token":  {good + " #old\n", 0o600, "line 1: a comment"},
		"a comment behind the name":   {"alice #" + good + "\n", 0o600, "line 1: a comment"},
		"a comment behind both":       {"alice " + good + " # old\n", 0o600, "line 1: a comment"},
		"three words":                 {"# x\nalice " + good + " b", 0o600, "line 2: want a token"},
		"a short token":               {"alice s3cret\n", 0o600, "fewer than 16"},
		"a letter":                    {"x", 0o600, "fewer than 16"},
		"a blank of another alphabet": {good + "\u200b", 0o600, "letters, digits"},
		"two with one token":          {"alice " + good + "\nbob " + good, 0o600, "same token"},
		"nothing":                     {"\n", 0o600, "no token"},
		"UTF-16":                      {"\xff\xfea\x00l\x00", 0o600, "UTF-16"},
		"everybody may write to it":   {good, 0o666, "chmod go-w"},
		"the group may write to it":   {good, 0o660, "chmod go-w"},
		"too large":                   {strings.Repeat("#\n", maxTokens), 0o600, "larger"},
	} {
		path := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		tokens, exposed, err := readTokens(path)
		switch {
		case tt.want == "" && (err != nil || tokens[0].secret != good || exposed != (tt.mode&0o004 != 0)):
			t.Errorf("%s: got %v, exposed %t, %v", name, tokens, exposed, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: got %v, want %q of %s", name, err, tt.want, path)
		case err != nil && strings.Contains(err.Error(), good):
			t.Errorf("%s: the error has the token: %v", name, err)
		}
	}
}

// A token file that is a FIFO does not block.
func TestTokenFileIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := readTokens(path)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the other end")
	}
}

// A problem with the token file is logged at the start, not only when an operator needs it.
func TestTokenFileIsCheckedAtTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{{good, 0o600, ""}, {good, 0o644, "chmod 600"}, {good, 0o666, "chmod go-w"}, {"x", 0o600, "could be guessed"}} {
		var log strings.Builder
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		NewControl(ControlOptions{TokenFile: path}, slog.New(slog.NewTextHandler(&log, nil)), "s.S")
		if !strings.Contains(log.String(), tt.want) || (tt.want == "") != (log.Len() == 0) {
			t.Errorf("%q with mode %o: the log has %q, want %q", tt.text, tt.mode, &log, tt.want)
		}
	}
}
