package console

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// SettingsFile is the settings file in the working directory. It need not exist.
	SettingsFile = "greenlight.yaml"
	// settingsFlag is the flag that names another settings file.
	settingsFlag = "settings"
	maxSettings  = 1 << 20
	// testData names the folder of market data for the tests of this project. It sets no flag, so that a test with data that runs
	// the program does not also set --data.
	testData = "GREENLIGHT_DATA"
)

// EnvironmentName returns the environment variable of a flag, for example GREENLIGHT_TLS_CA.
func EnvironmentName(program, flag string) string {
	return strings.ToUpper(strings.ReplaceAll(program+"_"+flag, "-", "_"))
}

// settings has the values of flags that are not on the command line.
type settings struct {
	// env has the environment.
	env map[string]string
	// path is the file that --settings names; empty for SettingsFile, if it exists.
	path string
}

func newSettings(environ []string) *settings {
	s := &settings{env: map[string]string{}}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			s.env[name] = value
		}
	}
	return s
}

// declare declares --settings.
func (s *settings) declare(fs *pflag.FlagSet) {
	fs.StringVar(&s.path, settingsFlag, "", "`file` with values of flags, YAML; default "+SettingsFile+" in the working directory, if it exists")
}

// apply sets the flags of cmd that are not on the command line: from the environment, or else from the file.
func (s *settings) apply(cmd *cobra.Command) error {
	program := cmd.Root().Name()
	var failed error
	set := func(f *pflag.Flag, value, source string) {
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = errors.Join(failed, Usagef("%s: --%s: %w", source, f.Name, err))
		}
	}
	fromEnv := func(f *pflag.Flag) {
		name := EnvironmentName(program, f.Name)
		if value := s.env[name]; value != "" && !f.Changed && f.Name != "help" && f.Name != "version" && name != testData {
			set(f, value, name)
		}
	}
	cmd.Flags().VisitAll(fromEnv)
	file, source, err := s.read(cmd.Root())
	if err != nil || failed != nil {
		return errors.Join(failed, err)
	}
	words := strings.TrimPrefix(cmd.CommandPath(), program+" ")
	values := maps.Clone(file.all)
	maps.Copy(values, file.commands[words])
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f := cmd.Flags().Lookup(name)
		switch _, own := file.commands[words][name]; {
		case f == nil && own:
			failed = errors.Join(failed, Usagef("%s: %s has no flag --%s", source, cmd.CommandPath(), name))
		case f != nil && !f.Changed:
			set(f, values[name], source)
		}
	}
	return failed
}

// settingsFile is the content of a settings file.
type settingsFile struct {
	// all has the values for every command that has the flag, by flag name; commands has those for one command, by its words.
	all      map[string]string
	commands map[string]map[string]string
}

// read reads the file, if there is one.
func (s *settings) read(root *cobra.Command) (*settingsFile, string, error) {
	path := s.path
	if path == "" {
		path = SettingsFile
	}
	f := &settingsFile{all: map[string]string{}, commands: map[string]map[string]string{}}
	raw, err := durable.ReadFile(path, maxSettings)
	if errors.Is(err, fs.ErrNotExist) && s.path == "" {
		return f, path, nil
	}
	if err != nil {
		return nil, path, err
	}
	var content map[string]any
	if err := yaml.Unmarshal(raw, &content); err != nil {
		return nil, path, Usagef("%s: %w", path, err)
	}
	flags, commands := known(root)
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if values, ok := content[name].(map[string]any); ok {
			if !slices.Contains(commands, name) {
				return nil, path, Usagef("%s: there is no command %q%s", path, name, didYouMean("", name, commands))
			}
			f.commands[name] = map[string]string{}
			for flag, value := range values {
				if f.commands[name][flag], err = settingText(value); err != nil {
					return nil, path, Usagef("%s: %s: %s: %w", path, name, flag, err)
				}
			}
			continue
		}
		if !slices.Contains(flags, name) {
			return nil, path, Usagef("%s: no command has a flag --%s%s", path, name, didYouMean("", name, flags))
		}
		if f.all[name], err = settingText(content[name]); err != nil {
			return nil, path, Usagef("%s: %s: %w", path, name, err)
		}
	}
	return f, path, nil
}

// settingText returns a value of the file as text for a flag: the items of a list are separated by commas.
func settingText(value any) (string, error) {
	switch v := value.(type) {
	case string, bool, int, float64:
		return fmt.Sprint(v), nil
	case []any:
		var parts []string
		for _, one := range v {
			text, err := settingText(one)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("%v: want a text, a number, true, false, or a list of these", value)
}

// known returns the names of all flags, and the words of all commands.
func known(root *cobra.Command) (flags, commands []string) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		if cmd != root {
			commands = append(commands, strings.TrimPrefix(cmd.CommandPath(), root.Name()+" "))
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	slices.Sort(flags)
	return slices.Compact(flags), commands
}
