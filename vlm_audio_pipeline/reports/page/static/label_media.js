// Give the images and players of the page their files: beside the page, or embedded in it.

for (const element of document.querySelectorAll("[data-media]")) element.src = mediaUrl(element.dataset.media);
