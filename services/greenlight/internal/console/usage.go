package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command returns a command without arguments. run receives the context of the program.
func Command(use, short, long string, run func(context.Context) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context()) }}
}

// Group returns a command that does nothing without a subcommand.
func Group(use, short, long string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long}
	cmd.AddCommand(subcommands...)
	return cmd
}

// strict makes a mistyped command line an error at every level. Cobra prints the help of a group, and exits 0, if its
// subcommand is missing or unknown.
func strict(root *cobra.Command) {
	root.DisableSuggestions = true // the error has our own suggestions: see suggested
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand(root))
	// A group has a RunE, but is not a command.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (not (index .Annotations "`+groupOnly+`"))}}`, 1))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		strictGroup(cmd)
	}
}

// groupOnly marks a command that does nothing without a subcommand.
const groupOnly = "group only"

func strictGroup(cmd *cobra.Command) {
	if !cmd.HasSubCommands() {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	if !cmd.Runnable() {
		// The mistake is the subcommand. Its flags are unknown here.
		cmd.FParseErrWhitelist.UnknownFlags = true
		cmd.Annotations = map[string]string{groupOnly: "true"}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return Usagef("%s needs a subcommand: %s", cmd.CommandPath(), strings.Join(subcommands(cmd), ", "))
		}
	}
	for _, sub := range cmd.Commands() {
		strictGroup(sub)
	}
}

// subcommands returns the names of the subcommands that the help lists.
func subcommands(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			names = append(names, sub.Name())
		}
	}
	return names
}

// unknownCommand returns the error for a word that does not name a subcommand of cmd.
func unknownCommand(cmd *cobra.Command, word string) error {
	return Usagef("unknown command %q for %q%s", word, cmd.CommandPath(), didYouMean("", word, subcommands(cmd)))
}

// flagError returns the error for flags that cannot be parsed.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError{err}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	word := unknown.GetSpecifiedShortnames() // "data" of -data
	if word == "" {
		word = unknown.GetSpecifiedName()
	}
	return Usagef("%w%s", err, didYouMean("--", word, names))
}

// Require makes the command line invalid if a declared flag is set and ok returns false.
func Require(fs *pflag.FlagSet, name, want string, ok func() bool) {
	Check(fs, name, func() error {
		if !ok() {
			return errors.New("want " + want)
		}
		return nil
	})
}

// Check makes the command line invalid if check, which is called when a declared flag is set, returns an error.
func Check(fs *pflag.FlagSet, name string, check func() error) {
	f := fs.Lookup(name)
	f.Value = checked{f.Value, check}
}

// checked is the value of a flag that is checked.
type checked struct {
	pflag.Value

	check func() error
}

// Set implements pflag.Value.
func (c checked) Set(s string) error {
	if err := c.Value.Set(s); err != nil {
		return err
	}
	return c.check()
}

// didYouMean suggests the names that are close to the word, by cobra's measure; empty if there are none.
func didYouMean(prefix, word string, names []string) string {
	near := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, name := range names {
		near.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	found := near.SuggestionsFor(word)
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	for i, name := range found {
		found[i] = prefix + name
	}
	return ": did you mean " + strings.Join(found, " or ") + "?"
}

// helpCommand returns the help command. Cobra's exits 0 for a command that does not exist.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]...", Short: "Show the help of a command",
		RunE: func(_ *cobra.Command, words []string) error {
			cmd, rest, err := root.Find(words)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd, words[len(words)-max(1, len(rest))])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// suggested returns err. If err is cobra's error for an unknown command, it adds suggestions.
func suggested(cmd *cobra.Command, err error) error {
	var word string
	if n, _ := fmt.Sscanf(err.Error(), "unknown command %q", &word); n == 1 && !errors.As(err, new(usageError)) {
		return unknownCommand(cmd, word)
	}
	return err
}
