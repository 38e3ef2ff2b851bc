package telemetry

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// version and commit are set by builds that cannot read the repository, such as image builds:
//
//	go build -ldflags "-X github.com/greenlight-ml/greenlight/pkg/telemetry.commit=..."
var version, commit string

// Build describes the version of a program.
type Build struct {
	// Version is a release, a Go pseudo-version, or "devel". Commit is the full hash, with "+changes" for uncommitted changes,
	// or "unknown". Go is the version of the compiler.
	Version, Commit, Go string
}

// BuildOf returns the build of this program.
var BuildOf = sync.OnceValue(func() Build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info, version, commit)
})

// buildOf returns the build from info, which may be nil. Unless empty, version and commit take precedence.
func buildOf(info *debug.BuildInfo, version, commit string) Build {
	b := Build{Version: "devel", Commit: "unknown", Go: runtime.Version()}
	if info != nil {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
		changes := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Commit = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				changes = "+changes"
			}
		}
		b.Commit += changes
	}
	b.Version, b.Commit = cmp.Or(version, b.Version), cmp.Or(commit, b.Commit)
	return b
}

// String returns "devel, commit 143e40f..., go1.26.8".
func (b Build) String() string { return fmt.Sprintf("%s, commit %s, %s", b.Version, b.Commit, b.Go) }

// registerBuild adds ml_build_info.
func registerBuild(reg prometheus.Registerer, program string) {
	b := BuildOf()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ml_build_info", Help: "Always 1, with the program and its version.",
		ConstLabels: prometheus.Labels{"program": program, "version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	info.Set(1)
	reg.MustRegister(info)
}
