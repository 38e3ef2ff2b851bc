package check

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRelease makes releases of one program in two copies of a small repository. Both must have the same bytes, with
// signatures that sha256sum and openssl verify.
func TestRelease(t *testing.T) {
	a, b := releasable(t), releasable(t)
	key := filepath.Join(t.TempDir(), "key.pem")
	tool(t, a.dir, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
	tool(t, a.dir, "openssl", "pkey", "-in", key, "-pubout", "-out", key+".pub")

	for _, refused := range []struct{ says, version string }{
		{"is not like v1.2.3", "1.2.3"},
		{"ends in /v2", "v2.0.0"},
		{"no entries under '## v1.2.4'", "v1.2.4"},
		{"tag proto/v1.2.5 exists, at another commit", "v1.2.5"},
	} {
		if out, err := a.release(t, refused.version); err == nil || !strings.Contains(out, refused.says) {
			t.Errorf("%s: %v, %s; want %q", refused.version, err, out, refused.says)
		}
	}
	stray := filepath.Join(a.dir, "stray")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := a.release(t, "v1.2.3"); err == nil || !strings.Contains(out, "not committed") {
		t.Errorf("a dirty tree: %v, %s", err, out)
	}
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}

	if out, err := a.release(t, "v1.2.3"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if tags := a.git(t, "tag", "--list", "*v1.2.3"); tags != "" {
		t.Errorf("without --tag it makes the tags %s", tags)
	}
	if out, err := b.release(t, "--tag", "--key", key, "v1.2.3"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if tags := b.git(t, "tag", "--list", "--points-at", "HEAD", "*v1.2.3"); tags != "proto/v1.2.3\nv1.2.3" {
		t.Errorf("the tags are %q", tags)
	}
	sums := func(c clone) string {
		text, err := os.ReadFile(filepath.Join(c.out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if first, second := sums(a), sums(b); first != second {
		t.Errorf("two copies give different bytes:\n%s\n%s", first, second)
	}
	if out, err := b.release(t, "--tag", "v1.2.3"); err == nil || !strings.Contains(out, "tag v1.2.3 exists") {
		t.Errorf("tagged twice: %v, %s", err, out)
	}
	tool(t, b.out, "sha256sum", "--check", "--strict", "SHA256SUMS")
	tool(t, b.out, "openssl", "dgst", "-sha256", "-verify", key+".pub", "-signature", "SHA256SUMS.sig", "SHA256SUMS")

	name := "greenlight-v1.2.3-" + runtime.GOOS + "-" + runtime.GOARCH
	files := unpack(t, filepath.Join(b.out, name+".tar.gz"))
	for _, file := range []string{"LICENSE", "README.md", "CHANGELOG.md", "ml-engine"} {
		if _, err := os.Stat(filepath.Join(files, name, file)); err != nil {
			t.Error(err)
		}
	}
	version, err := exec.CommandContext(t.Context(), filepath.Join(files, name, "ml-engine")).CombinedOutput()
	if want := "v1.2.3, commit " + b.git(t, "rev-parse", "HEAD") + "\n"; err != nil || string(version) != want {
		t.Errorf("the program prints %q (%v), want %q", version, err, want)
	}
}

// clone is a small repository in the form of this one, with a release in out.
type clone struct{ dir, out, sbom string }

// releasable returns a repository with the same commits every time. Its CHANGELOG has v1.2.3, and an existing tag blocks
// v1.2.5. It has deploy/tools/release, and a program that prints what that script sets.
func releasable(t *testing.T) clone {
	t.Helper()
	const set = "var version, commit string"
	read := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if !strings.Contains(read("pkg", "telemetry", "version.go"), "\n"+set+"\n") {
		t.Errorf("pkg/telemetry does not declare %q, which deploy/tools/release sets", set)
	}
	c := clone{dir: t.TempDir(), sbom: filepath.Join(t.TempDir(), "sbom")}
	c.out = filepath.Join(c.dir, "var", "release", "v1.2.3")
	for path, text := range map[string]string{
		".gitignore": "/var/\n", "LICENSE": "l\n", "README.md": "r\n",
		"CHANGELOG.md":             "## Unreleased\n\n- [FEATURE] c\n\n## v1.2.5\n\n- [BUGFIX] b\n\n## v1.2.4 (2026-01-02)\n\n## v1.2.3 (2026-01-01)\n\n- [FEATURE] a\n",
		"go.mod":                   "module github.com/greenlight-ml/greenlight\n\ngo 1.26.0\n",
		"proto/go.mod":             "module github.com/greenlight-ml/greenlight/proto\n",
		"pkg/telemetry/version.go": "package telemetry\n\n" + set + "\n\nfunc String() string { return version + \", commit \" + commit }\n",
		"services/ml-engine/main.go": "package main\n\nimport \"github.com/greenlight-ml/greenlight/pkg/telemetry\"\n\n" +
			"func main() { println(telemetry.String()) }\n",
		"deploy/tools/release": read("deploy", "tools", "release"),
	} {
		path = filepath.Join(c.dir, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil { //nolint:gosec // one is a program
			t.Fatal(err)
		}
	}
	// make sbom lists the modules; a placeholder file is enough here.
	if err := os.WriteFile(c.sbom, []byte("#!/bin/sh\nwhile [ \"$1\" != -output ]; do shift; done\necho \"{}\" >\"$2\"\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	c.git(t, "init", "--quiet")
	c.git(t, "add", "--all")
	c.git(t, "commit", "--quiet", "-m", "before")
	c.git(t, "tag", "proto/v1.2.5")
	c.git(t, "commit", "--quiet", "--allow-empty", "-m", "release")
	return c
}

// release runs deploy/tools/release for one program and this system.
func (c clone) release(t *testing.T, args ...string) (string, error) {
	t.Helper()
	flags, version := args[:len(args)-1], args[len(args)-1]
	args = slices.Concat(flags, []string{"--only", runtime.GOOS + "/" + runtime.GOARCH + ":ml-engine", c.sbom, version})
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.dir, "deploy", "tools", "release"), args...)
	cmd.Env = append(append(cmd.Environ(), "GOWORK=off"), identity...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// identity makes the commits of all clones identical.
var identity = []string{
	"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@localhost",
	"GIT_AUTHOR_DATE=2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z", "GIT_CONFIG_GLOBAL=/dev/null",
}

func (c clone) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = c.dir, append(os.Environ(), identity...), t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// unpack returns a folder with the files of an archive.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name)) //nolint:gosec // made by this test
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else {
			var content []byte
			content, err = io.ReadAll(r)
			err = errors.Join(err, os.WriteFile(path, content, h.FileInfo().Mode().Perm()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
