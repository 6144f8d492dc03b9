"""A thin client of LXD's and Incus' REST API: requests, operations, commands, files, images, events.

It knows the protocol and nothing of what is done with it. LXD's own documentation: "REST API", "API extensions".
"""
