package telemetry

import (
	"net/http"
	"net/http/pprof"
)

// AddProfiles adds /debug/pprof/: where CPU time and memory go, for go tool pprof. It tells much of a process, and taking a
// profile slows it down, so services add it only when asked to.
func AddProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
