package telemetry

import (
	"net/http"
	"net/http/pprof"
)

// AddProfiles adds /debug/pprof/, for go tool pprof. Profiles reveal a lot about a process and slow it down, so services add
// them only on request.
func AddProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
