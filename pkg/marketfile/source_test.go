package marketfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFolderChoices(t *testing.T) {
	dir := dataDir(t)
	tests := []struct {
		path string
		opts Options
		want string
	}{
		{"eurusd-quotes-2014-05", Options{}, "there are several; name one: fxcm/minute, fxcm/tick, oanda/minute, oanda/tick"},
		{"eurusd-quotes-2014-05", Options{Symbol: "EURUSD"}, `there are several of "EURUSD"; name one: fxcm/minute, fxcm/tick, oanda/minute, oanda/tick`},
		{"eurusd-quotes-2014-05/fxcm", Options{}, "there are several; name one: minute, tick"},
		{"coinbase-l1-minute", Options{}, "there are several; name one: BTCEUR, BTCUSD, ETHUSD, LTCUSD"},
		{"coinbase-l1-minute", Options{Symbol: "XRPUSD"}, `there is no "XRPUSD"; name one: BTCEUR, BTCUSD, ETHUSD, LTCUSD`},
		{"binance-bookticker-2024-08", Options{}, "there are several; name one: BTCUSD_PERP, BTCUSDT, ETHUSD_PERP"},
		{"", Options{}, "BTC-PERP, btcusd-bitfinex-1m, BTCEUR, coinbase-l1-minute/btcusd, ETHUSD, LTCUSD, eurusd-quotes-2014-05/fxcm/minute"},
	}
	for _, tt := range tests {
		t.Run(tt.path+" "+tt.opts.Symbol, func(t *testing.T) {
			_, err := Read(filepath.Join(dir, tt.path), tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// barRows returns n rows starting at a minute of 2024-01-02.
func barRows(from, n int) string {
	var b strings.Builder
	b.WriteString("timestamp,open,high,low,close\n")
	for m := from; m < from+n; m++ {
		fmt.Fprintf(&b, "2024-01-02 %02d:%02d:00,1,1,1,1\n", m/60, m%60)
	}
	return b.String()
}

func TestReadFolder(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		opts  Options
		bars  int
		want  string // error
	}{
		{"one series of files", map[string]string{"abc-2.csv": barRows(0, 3), "abc-1.csv": barRows(3, 4)}, Options{}, 7, ""},
		{"overlap", map[string]string{"abc-1.csv": barRows(0, 3), "abc-2.csv": barRows(2, 3)}, Options{}, 0, `abc-2.csv:2: column "timestamp": "2024-01-02 00:02:00" repeats the minute of the previous row`},
		{"overlap allowed", map[string]string{"abc-1.csv": barRows(0, 3), "abc-2.csv": barRows(2, 3)}, Options{MaxBadRows: 1}, 5, ""},
		{"two instruments", map[string]string{"abc.csv": barRows(0, 3), "xyz.csv": barRows(0, 4)}, Options{}, 0, "set: there are several; name one: ABC, XYZ"},
		{"one of two", map[string]string{"abc.csv": barRows(0, 3), "xyz.csv": barRows(0, 4)}, Options{Symbol: "xyz"}, 4, ""},
		{"bars and quotes", map[string]string{"abc-bars.csv": barRows(0, 3), "abc-quotes.csv": "ts,bid,ask\n1704153600,1,1\n"}, Options{}, 0, "set: there are several; name one: ABC/bars, ABC/quotes"},
		{"the bars", map[string]string{"abc-bars.csv": barRows(0, 3), "abc-quotes.csv": "ts,bid,ask\n1704153600,1,1\n"}, Options{Symbol: "abc/bars"}, 3, ""},
		{"one file unknown", map[string]string{"abc-1.csv": barRows(0, 3), "abc-2.csv": "a,b\n1,2\n"}, Options{}, 0, "abc-2.csv: unknown format"},
		{"only unknown", map[string]string{"abc-2.csv": "a,b\n1,2\n"}, Options{}, 0, "abc-2.csv: unknown format"},
		{"no data", map[string]string{"README.md": "x", ".hidden.csv": "x", "MANIFEST.csv": "path\n"}, Options{}, 0, "set: the folder has no data files (.csv, .tsv, .txt, .gz, .zip, .parquet)"},
		{"other files in the folder", map[string]string{"README.md": "x", ".git/x.csv": "x", "MANIFEST.csv": "path\n", "abc.csv": barRows(0, 3)}, Options{}, 3, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for name, text := range tt.files {
				if text != "" {
					store(t, filepath.Join("set", name), text)
				}
			}
			s, err := Read("set", tt.opts)
			switch {
			case tt.want != "":
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			case err != nil:
				t.Error(err)
			case len(s.Bars) != tt.bars:
				t.Errorf("got %d bars, want %d", len(s.Bars), tt.bars)
			default:
				checkBars(t, s.Bars)
			}
		})
	}
}

func TestReadFolderLink(t *testing.T) {
	t.Chdir(t.TempDir())
	store(t, "set/abc.csv", barRows(0, 3))
	if err := os.Symlink("set", "link"); err != nil {
		t.Skip(err)
	}
	if _, err := Read("link", Options{}); err != nil {
		t.Error(err)
	}
}
