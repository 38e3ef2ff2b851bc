package telemetry

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestBuildOf(t *testing.T) {
	recorded := func(version string, settings ...string) *debug.BuildInfo {
		info := &debug.BuildInfo{Main: debug.Module{Version: version}}
		for i := 0; i < len(settings); i += 2 {
			info.Settings = append(info.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return info
	}
	for name, test := range map[string]struct {
		info            *debug.BuildInfo
		version, commit string
		want            string
	}{
		"nothing recorded":     {nil, "", "", "devel, commit unknown"},
		"a worktree":           {recorded("(devel)"), "", "", "devel, commit unknown"},
		"a clone":              {recorded("(devel)", "vcs.revision", "143e40f", "vcs.modified", "false"), "", "", "devel, commit 143e40f"},
		"a clone with changes": {recorded("v1.2.3", "vcs.revision", "143e40f", "vcs.modified", "true"), "", "", "v1.2.3, commit 143e40f+changes"},
		"make build":           {recorded("(devel)", "vcs.revision", "143e40f"), "", "143e40f+changes", "devel, commit 143e40f+changes"},
		"a release":            {recorded(""), "v1.2.3", "143e40f", "v1.2.3, commit 143e40f"},
	} {
		if got, want := buildOf(test.info, test.version, test.commit).String(), test.want+", "+runtime.Version(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
