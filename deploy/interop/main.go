// Command interop is an adapter of package oms for the conformance suite of OpenSSF Model Signing
// (https://github.com/sampras343/model-signing-conformance). It signs and verifies with keys; certificates and keyless
// signatures are not supported and fail.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/oms"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "interop: %v\n", err)
		os.Exit(1)
	}
}

// arguments are the arguments of the adapter protocol.
type arguments struct {
	method, model, bundle, private, public string
	ignore                                 []string
	allowUnsigned                          bool
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("want sign-model or verify-model")
	}
	var a arguments
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&a.method, "method", "", "key")
	fs.StringVar(&a.model, "model-path", "", "`folder` or file of the model")
	fs.StringVar(&a.private, "private-key", "", "`file` with the private key, PEM")
	fs.StringVar(&a.public, "public-key", "", "`file` with the public key, PEM")
	fs.Func("ignore-paths", "`path` that is not signed; may be given several times", func(s string) error {
		a.ignore = append(a.ignore, s)
		return nil
	})
	fs.BoolVar(&a.allowUnsigned, "ignore-unsigned-files", false, "accept files that are not in the signature")
	do := a.sign
	switch args[0] {
	case "sign-model":
		fs.StringVar(&a.bundle, "output-bundle", "", "`file` for the bundle")
	case "verify-model":
		do = a.verify
		fs.StringVar(&a.bundle, "bundle", "", "`file` with the bundle")
	default:
		return fmt.Errorf("%q: want sign-model or verify-model", args[0])
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if a.method != "key" {
		return fmt.Errorf("--method %q: only key is supported", a.method)
	}
	return do()
}

// open opens the folder of the model.
func (a *arguments) open() (*os.Root, oms.Options, error) {
	opts := oms.Options{AllowUnsigned: a.allowUnsigned}
	dir := a.model
	info, err := os.Stat(a.model)
	if err != nil {
		return nil, opts, err
	}
	if !info.IsDir() {
		dir, opts.Only = filepath.Split(a.model)
	}
	for _, p := range append(a.ignore, a.bundle) {
		if rel, err := filepath.Rel(dir, p); err == nil && !strings.HasPrefix(rel, "..") {
			opts.Ignore = append(opts.Ignore, filepath.ToSlash(rel))
		}
	}
	root, err := durable.OpenRoot(dir)
	return root, opts, err
}

func (a *arguments) sign() error {
	key, err := dsse.ReadSigner(a.private)
	if err != nil {
		return err
	}
	root, opts, err := a.open()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	raw, err := oms.Sign(root, filepath.Base(a.model), opts, key)
	if err != nil {
		return err
	}
	return durable.WriteFile(a.bundle, raw, 0o644)
}

func (a *arguments) verify() error {
	keys, err := dsse.ReadKeys(a.public)
	if err != nil {
		return err
	}
	raw, err := durable.ReadFile(a.bundle, oms.MaxBundle)
	if err != nil {
		return err
	}
	root, opts, err := a.open()
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	_, err = oms.Verify(root, raw, opts, keys)
	return err
}
