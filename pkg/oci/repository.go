package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

const (
	// MaxTags limits the tags of a repository; maxPages limits the pages that list them.
	MaxTags, maxPages = 1000, 100
	// maxMetadata limits a response that is not a file, in bytes; maxHeader limits its headers.
	maxMetadata, maxHeader = 1 << 20, 64 << 10
	// maxText limits the text of an error, in bytes.
	maxText = 1000
	// maxRedirects limits redirects. Many registries keep files in separate object storage.
	maxRedirects = 5

	// askTime limits a query, such as resolving a tag. moveTime limits the transfer of a model.
	askTime, moveTime = 30 * time.Second, 10 * time.Minute
	// headerTime limits the wait for a response header.
	headerTime = 15 * time.Second
)

// ErrNotFound is returned for a tag or digest that the repository does not have.
var ErrNotFound = errors.New("the repository has no such tag or digest")

// Options configure how a registry is reached.
type Options struct {
	// PlainHTTP uses HTTP without TLS. A registry on this machine's loopback always does.
	PlainHTTP bool
}

// Repository is a repository of a registry. It is safe for concurrent use.
type Repository struct {
	// Reference names it, without a version.
	Reference Reference

	remote *remote.Repository
	base   *http.Transport
}

// Open returns the repository that ref names. It uses the credentials of docker login, from config.json or the credential
// helper named there. It trusts the system's certificate authorities, or those in SSL_CERT_FILE.
func Open(ref Reference, opts Options) (*Repository, error) {
	repository, err := remote.NewRepository(ref.Registry + "/" + ref.Repository)
	if err != nil {
		return nil, err
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("docker credentials: %w", err)
	}
	base := rpc.HTTPTransport()
	base.ResponseHeaderTimeout, base.MaxResponseHeaderBytes = headerTime, maxHeader
	plain := opts.PlainHTTP || loopback(ref.Registry)
	client := &auth.Client{
		Client: &http.Client{
			Transport: retry.NewTransport(guard{base, ref.Registry, plain}),
			CheckRedirect: func(_ *http.Request, via []*http.Request) error {
				if len(via) >= maxRedirects {
					return fmt.Errorf("redirected %d times", maxRedirects)
				}
				return nil
			},
		},
		Credential: credentials.Credential(store),
		Cache:      auth.NewCache(),
	}
	client.SetUserAgent("greenlight")
	repository.Client, repository.PlainHTTP, repository.MaxMetadataBytes, repository.TagListMaxPages = client, plain, maxMetadata, maxPages
	return &Repository{Reference: ref.At(""), remote: repository, base: base}, nil
}

// Close closes idle connections.
func (r *Repository) Close() { r.base.CloseIdleConnections() }

// guard refuses plain HTTP, except to a registry that is configured for it. Redirects and token URLs come from the registry.
type guard struct {
	next     http.RoundTripper
	registry string
	plain    bool
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !(g.plain && r.URL.Host == g.registry) {
		return nil, fmt.Errorf("the registry refers to %s://%s: only https is allowed", r.URL.Scheme, r.URL.Host)
	}
	return g.next.RoundTrip(r)
}

// Resolve returns the digest of the artifact that a tag or a digest names, with its algorithm. It returns [ErrNotFound] if
// there is none.
func (r *Repository) Resolve(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := r.remote.Resolve(ctx, version)
	if err != nil {
		return "", r.failed(version, notFound(err))
	}
	return found.Digest.String(), nil
}

// notFound translates the error of oras to [ErrNotFound].
func notFound(err error) error {
	if errors.Is(err, errdef.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// Tags returns the tags of the repository, and an error if there are more than [MaxTags].
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err = r.remote.Tags(ctx, "", func(page []string) error {
		tags = append(tags, page...)
		if len(tags) > MaxTags {
			return fmt.Errorf("more than %d tags: use a repository for each model", MaxTags)
		}
		return nil
	})
	if err != nil {
		return nil, r.failed("", err)
	}
	return tags, nil
}

// failure is an error whose text is safe to print although parts of it come from a registry.
type failure struct {
	text string
	err  error
}

// Error implements error.
func (f *failure) Error() string { return f.text }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// failed returns err with the reference. Nil stays nil.
func (r *Repository) failed(version string, err error) error {
	if err == nil {
		return nil
	}
	ref := r.Reference
	if version != "" {
		ref = ref.At(version)
	}
	return &failure{text.Clean(fmt.Sprintf("%s: %v", ref, err), maxText), err}
}
