package facade

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Hosts are the host names that POST requests may use, in addition to localhost, IP addresses, and the listener's name.
type Hosts []string

// String implements flag.Value.
func (h *Hosts) String() string { return strings.Join(*h, ",") }

// Set implements flag.Value. It accepts several names, separated by commas.
func (h *Hosts) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, ":/ *") {
			return errors.New("want host names without port")
		}
		*h = append(*h, name)
	}
	return nil
}

// Guard protects against malicious web pages: a browser sends any page's requests to this address, with the user's network
// access. Guard refuses a request other than GET if it is cross-origin, or if its Host is not a name of this service (DNS
// rebinding). listener is the configured listen address.
func Guard(next http.Handler, listener string, hosts Hosts) http.Handler {
	if host, _, err := net.SplitHostPort(listener); err == nil && host != "" {
		hosts = append(slices.Clip(hosts), host)
	}
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			next.ServeHTTP(w, r)
			return
		}
		if err := origin.Check(r); err != nil {
			WriteError(w, status.Error(codes.PermissionDenied, "cross-origin request refused"))
			return
		}
		if !known(r.Host, hosts) {
			WriteError(w, status.Error(codes.PermissionDenied, fmt.Sprintf("the host %.100q is not a name of this service: use its address, or start the service with --http-host", r.Host)))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known reports whether a Host header names this service.
func known(hostport string, hosts Hosts) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost") || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// errNotJSON is returned for a body without a JSON content type.
var errNotJSON = status.Error(codes.InvalidArgument, "the request must have the header Content-Type: application/json")

// contentType checks the Content-Type of a body. isJSON is set for JSON and for a body without a type. curl -d sends a form
// type for any body; it is accepted, with isJSON unset, for requests that change nothing. Both exceptions apply only to
// programs: a browser sends such bodies cross-origin without a preflight, but adds at least one of the three headers.
func contentType(r *http.Request) (isJSON bool, err error) {
	browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Referer") != ""
	if len(r.Header.Values("Content-Type")) == 0 && !browser {
		return true, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return false, errNotJSON
	case kind == "application/json":
		return true, nil
	case kind == "application/x-www-form-urlencoded" && !browser:
		return false, nil
	}
	return false, errNotJSON
}
