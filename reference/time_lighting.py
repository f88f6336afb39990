"""Images a second of albumentations' FancyPCA on 224×224, on one core: time_lighting.py DIR_OF_JPEGS"""
import glob, json, statistics, sys, time
import albumentations as A
import cv2

cv2.setNumThreads(1)
images = [cv2.resize(cv2.cvtColor(cv2.imread(name), cv2.COLOR_BGR2RGB), (224, 224)) for name in sorted(glob.glob(sys.argv[1] + "/*.jp*g"))]
lighting = A.Compose([A.FancyPCA(alpha=0.1, p=1)])
seconds = []
for _ in range(4):
    start = time.thread_time()
    for image in images:
        lighting(image=image)
    seconds.append(time.thread_time() - start)
print(json.dumps({"op": "lighting", "peer": "albumentations 2.0.8", "img_per_s": round(len(images) / statistics.median(seconds[1:])), "n": 3}))
