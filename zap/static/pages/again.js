// Load the page again while zap computes what it shows. Without this script, the button of the page loads it.
setTimeout(() => location.reload(), 1000);
