package vtclient_test

import (
	"context"
	"fmt"

	"github.com/vtclient/vtclient"
)

func ExampleHeyGenV3() {
	client, err := vtclient.New("https://api.heygen.com",
		vtclient.WithEndpoint(vtclient.HeyGenV3()),
		vtclient.WithHeader("X-Api-Key", "your key"),
		backend(200, `{"data":{"id":"tr_1-es","status":"completed","video_url":"https://files.example.com/es.mp4"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := client.Wait(context.Background(), "tr_1-es")
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := vtclient.Decode[struct {
		Data struct {
			VideoURL string `json:"video_url"`
		} `json:"data"`
	}](status)
	fmt.Println(status.State, result.Data.VideoURL, err)
	// Output: completed https://files.example.com/es.mp4 <nil>
}
