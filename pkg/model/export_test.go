package model

import "os"

// Load reads and verifies the model in the folder, without a registry around it.
func Load(dir string) (*Artifact, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return loadFrom(root, dir, nil)
}
