module github.com/vtclient/vtclient

go 1.25
