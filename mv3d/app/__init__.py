"""What people look at: pages to send, a viewer in the browser, and the app with its HTTP interface."""
