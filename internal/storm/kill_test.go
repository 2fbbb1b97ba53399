package storm

type clientConfig struct{}

func waitFor(clientConfig) error { return nil }
