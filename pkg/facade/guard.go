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

// Hosts are the names by which clients may POST, besides localhost, the addresses of IP, and the name of the listener.
type Hosts []string

// String implements flag.Value.
func (h *Hosts) String() string { return strings.Join(*h, ",") }

// Set implements flag.Value. Several names are separated by commas, so that an environment variable can have them.
func (h *Hosts) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, ":/ *") {
			return errors.New("want names of hosts, without port")
		}
		*h = append(*h, name)
	}
	return nil
}

// Guard keeps web pages from changing anything: a browser sends them, with the user's access to this address, wherever a page
// tells it to. A request that is not a GET is refused when it is of another origin, and when its Host is not a name of this
// service: a page of such a name has its name point here. listener is the address that was given to listen on.
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
			WriteError(w, status.Error(codes.PermissionDenied, "a request from a web page of another origin is refused"))
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

// errNotJSON is of a body that does not say that it is JSON.
var errNotJSON = status.Error(codes.InvalidArgument, "the request must have the header Content-Type: application/json")

// contentType reports whether the body may be taken for JSON that its sender means: JSON, or a body that says nothing of
// itself. What curl -d says of any body is taken for a question alone. Both exceptions are for programs: a browser lets a
// page of any origin send such bodies without asking, and adds at least one of the three headers.
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
