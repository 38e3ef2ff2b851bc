// Package oci pushes models to OCI registries, which also hold container images, and pulls them. A model is an artifact whose
// layers are its files. Nothing that a registry sends is trusted: sizes, counts and times are bounded, content must match the
// requested digest, and a model enters the models folder only once all of it is verified.
package oci

import (
	"fmt"
	"net"
	"strings"

	"oras.land/oras-go/v2/registry"
)

const scheme = "oci://"

// Is reports whether s is meant to be a [Reference], not a folder.
func Is(s string) bool { return strings.HasPrefix(s, scheme) }

// Reference names a repository, or an artifact in it.
type Reference struct {
	// Registry is the host of the registry, with the port if it is not the default. Repository is a path of names.
	Registry, Repository string
	// Version is a tag, or a digest with its algorithm; empty for the repository.
	Version string
}

// Parse reads oci://registry/repository, with :tag or @sha256:digest for an artifact.
func Parse(s string) (Reference, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return Reference{}, fmt.Errorf("%.200q: want oci://registry/repository", s)
	}
	parsed, err := registry.ParseReference(rest)
	ref := Reference{parsed.Registry, parsed.Repository, parsed.Reference}
	if err == nil && ref.String() != s { // a tag and a digest, or an empty tag
		err = fmt.Errorf("it reads as %s", ref)
	}
	if err != nil {
		return Reference{}, fmt.Errorf("%.200q: want oci://registry/repository, with :tag or @sha256:digest for one model: %w", s, err)
	}
	return ref, nil
}

// String returns the form that [Parse] reads.
func (r Reference) String() string {
	s := scheme + r.Registry + "/" + r.Repository
	switch {
	case r.Version == "":
		return s
	case strings.Contains(r.Version, ":"):
		return s + "@" + r.Version
	}
	return s + ":" + r.Version
}

// At returns the reference of another version in the same repository.
func (r Reference) At(version string) Reference {
	r.Version = version
	return r
}

// loopback reports whether the host, which may have a port, is this machine.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}
